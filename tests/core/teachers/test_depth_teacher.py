from dataclasses import replace

import numpy as np
import pytest
import torch

from distill3r_core.errors import InputMissingError
from distill3r_core.geometry.cameras import project
from distill3r_core.teachers import DepthTeacher, make_targets


def ask(views):
    teacher = DepthTeacher()
    return teacher.predict([teacher.prepare(view) for view in views])


def test_every_local_point_is_seen_at_its_own_pixel(views):
    raw = ask(views)
    pixels = project(raw.points_local[1], raw.intrinsics[1])
    torch.testing.assert_close(pixels[4, 7], torch.tensor([7.5, 4.5]))


def test_the_same_place_has_the_same_global_point_in_every_view(views):
    targets = make_targets(ask(views), size=(28, 42)).targets
    # The camera moved by 0.1 m, which is two pixels at f = 40 and z = 2.
    first, second = targets.points_global[0], targets.points_global[1]
    torch.testing.assert_close(first[:, 2:], second[:, :-2])


def test_the_anchors_frame_is_the_global_one_wherever_the_world_is(views):
    turn = np.array([[0, -1, 0, 1e5], [1, 0, 0, -2e5], [0, 0, 1, 3], [0, 0, 0, 1]])
    moved = [
        replace(view, world_from_cam=(turn @ view.world_from_cam).astype(np.float64))
        for view in views
    ]
    torch.testing.assert_close(
        ask(moved).global_from_local[1], ask(views).global_from_local[1], rtol=0, atol=0.02
    )
    assert torch.equal(ask(moved).global_from_local[0], torch.eye(3, 4))


def test_pixels_without_depth_are_invalid_and_finite(views):
    spoilt = views[0].depth.copy()
    spoilt[0, :4] = [0, -1, np.nan, np.inf]
    raw = ask([replace(views[0], depth=spoilt), *views[1:]])
    assert raw.valid_mask[0][0, :5].tolist() == [False, False, False, False, True]
    assert raw.points_local[0].isfinite().all()
    assert raw.confidence_local[0][0, 0] == 1


def test_confidence_is_two_at_a_meter_and_falls_with_the_square(views):
    depth = np.tile(np.array([0.5, 1, 2, 4], dtype=np.float32), (28, 11))[:, :42]
    raw = ask([replace(views[0], depth=depth)])
    assert raw.confidence_local[0][0, :4].tolist() == [5.0, 2.0, 1.25, 1.0625]


def test_millimeters_give_the_points_and_confidences_of_meters(views):
    thousandfold = []
    for view in views:
        pose = view.world_from_cam.copy()
        pose[:3, 3] *= 1000
        thousandfold.append(replace(view, depth=view.depth * 1000, world_from_cam=pose, unit="mm"))
    ours, theirs = ask(thousandfold), ask(views)
    torch.testing.assert_close(ours.points_local[2], theirs.points_local[2])
    torch.testing.assert_close(ours.global_from_local, theirs.global_from_local)
    torch.testing.assert_close(ours.confidence_local[2], theirs.confidence_local[2])


def test_confidence_is_two_where_the_unit_is_not_metric(views):
    raw = ask([replace(view, unit="none") for view in views])
    assert (raw.confidence_local[0] == 2).all()


def test_what_a_view_lacks_is_named(views):
    with pytest.raises(InputMissingError, match="depth and a calibrated K"):
        DepthTeacher().prepare(replace(views[1], depth=None, intrinsics=None))
