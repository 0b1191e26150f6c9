from dataclasses import replace

import numpy as np
import torch

from distill3r_core.teachers import SyntheticTeacher, make_targets


def ask(views, **arguments):
    teacher = SyntheticTeacher(**arguments)
    return teacher.predict([teacher.prepare(view) for view in views])


def test_the_anchor_sees_the_same_points_in_both_frames(views):
    targets = make_targets(ask(views), size=(14, 28)).targets
    torch.testing.assert_close(targets.points_global[0], targets.points_local[0])


def test_two_neighbours_agree_on_the_points_that_both_see(views):
    targets = make_targets(ask(views * 3), size=(28, 42)).targets
    first, second = (targets.points_global[i].flatten(0, 1) for i in (0, 1))
    nearest = torch.cdist(first, second).min(dim=1).values
    assert nearest.median() < 0.1  # a pixel at 3 m is 0.1 m wide here


def test_the_scene_depends_on_the_samples_name_and_the_seed_alone(views):
    other_pictures = [replace(view, image=view.image[::-1].copy()) for view in views]
    assert torch.equal(ask(views).points_local[1], ask(other_pictures).points_local[1])
    other_name = [replace(view, sample="rooms/two/000") for view in views]
    assert not torch.equal(ask(views).points_local[1], ask(other_name).points_local[1])
    assert not torch.equal(ask(views).points_local[1], ask(views, seed=1).points_local[1])


def test_every_view_keeps_its_own_size(views):
    portrait = replace(views[1], image=np.zeros((42, 28, 3), dtype=np.uint8), depth=None)
    raw = ask([views[0], portrait])
    assert [tuple(points.shape) for points in raw.points_local] == [(28, 42, 3), (42, 28, 3)]
