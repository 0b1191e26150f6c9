"""The term `pose` sees how the student's maps place its views, in no unit."""

import math
from dataclasses import replace

import torch
from loss_cases import random_case

from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.losses import LossSettings, Objective
from distill3r_core.losses.loss_term import TermInputs, TermOptions
from distill3r_core.losses.pose import PoseOptions, pose_error
from distill3r_core.types import PointMaps, TeacherTargets

ONLY = {
    name: PoseOptions(
        **{part: float(part == name) for part in ("rotation", "translation", "scale")}
    )
    for name in ("rotation", "translation", "scale")
}


def turn(degrees: float) -> torch.Tensor:
    """About the y axis."""
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)


def exact_case(*, degrees: float = 25) -> tuple[PointMaps, TeacherTargets]:
    """Targets of two posed views, and a student that repeats them."""
    _, targets = random_case(samples=2, views=2)
    similarities = torch.eye(3, 4, dtype=torch.float64).repeat(2, 2, 1, 1)
    similarities[:, 1, :, :3] = 1.5 * turn(degrees)
    similarities[:, 1, :, 3] = torch.tensor([0.4, -0.2, 0.3])
    targets = replace(targets, global_from_local=similarities, stored_points_global=None)
    whole = apply_similarity(similarities, targets.points_local)
    maps = PointMaps(whole, targets.points_local, targets.confidence_global, None)
    return maps, targets


def error(
    maps: PointMaps, targets: TeacherTargets, options: PoseOptions = PoseOptions()
) -> torch.Tensor:
    return pose_error(TermInputs(maps, targets), options=options)


def test_it_is_zero_at_the_teacher_s_poses_in_any_unit_of_the_student() -> None:
    maps, targets = exact_case()
    assert maps.points_local is not None and maps.points_global is not None
    assert error(maps, targets) < 1e-6
    each = torch.tensor([0.3, 8.0], dtype=torch.float64)[:, None, None, None]
    other = replace(
        maps, points_local=maps.points_local * each, points_global=5 * maps.points_global
    )
    assert error(other, targets) < 1e-6
    bigger = replace(maps, points_global=maps.points_global * each)  # of one view beside the other
    assert error(bigger, targets, ONLY["scale"]) > 0.1


def test_a_turned_view_costs_its_angle_and_the_gradient_does_not_vanish_near_zero() -> None:
    maps, targets = exact_case()
    assert maps.points_global is not None
    found, slopes = [], []
    for degrees in (1.0, 5.0, 10.0):
        moved = maps.points_global.clone()
        own = moved[:, 1].flatten(1, 2)[targets.valid_mask[:, 1].flatten(1, 2)].mean(0)
        moved[:, 1] = (moved[:, 1] - own) @ turn(degrees).mT + own
        moved.requires_grad_()
        cost = error(replace(maps, points_global=moved), targets, ONLY["rotation"])
        (slope,) = torch.autograd.grad(cost, [moved])
        found.append(float(cost.detach()))
        slopes.append(float(slope.norm()))
    # The other view is right: half of the chord between two rotations in Frobenius' norm.
    expected = [math.sqrt(2) * math.sin(math.radians(d) / 2) for d in (1.0, 5.0, 10.0)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-6, atol=1e-6)
    assert min(slopes) > 0.9 * max(slopes)


def test_views_that_fix_no_pose_are_left_out() -> None:
    maps, targets = exact_case()
    mask = targets.valid_mask.clone()
    mask[:, 1] = False
    assert error(maps, replace(targets, valid_mask=mask)) < 1e-6
    nothing = error(maps, replace(targets, valid_mask=torch.zeros_like(mask)))
    assert nothing == 0


def test_it_is_a_term_by_request() -> None:
    predicted, targets = random_case()
    assert "pose" not in LossSettings(metric=True).all_terms
    terms: dict[str, TermOptions] = {"pose": PoseOptions(weight=0.5)}
    loss = Objective(LossSettings(terms=terms).all_terms)(predicted, targets)
    torch.testing.assert_close(loss.parts["pose"], 0.5 * error(predicted, targets))


def test_views_without_a_common_frame_teach_no_pose() -> None:
    """Their similarity is the identity, which stands for no pose."""
    maps, targets = exact_case(degrees=40)
    similarities = targets.global_from_local.clone()
    similarities[1] = torch.eye(3, 4, dtype=torch.float64)
    alone = torch.tensor([[False, False], [True, True]])
    unposed = replace(targets, global_from_local=similarities)
    assert error(maps, unposed) > 0.1  # what the identity would teach
    assert error(maps, replace(unposed, local_only=alone)) < 1e-6
