"""The term `scale` compares sizes and nothing else; the point terms compare everything else."""

import math
from dataclasses import fields, replace
from typing import Any

import torch
from loss_cases import random_case

from distill3r_core.losses import DistillationLoss, LossSettings, Objective
from distill3r_core.losses.loss_term import TermInputs
from distill3r_core.losses.scale import LINEAR_FROM, scale_error
from distill3r_core.types import PointMaps, TeacherTargets


def of_targets(targets: TeacherTargets) -> PointMaps:
    """A student that says what the teacher says."""
    return PointMaps(
        points_global=targets.points_global,
        points_local=targets.points_local,
        confidence_global=targets.confidence_global,
        confidence_local=targets.confidence_local,
    )


def scaled(maps: PointMaps, factor: float | torch.Tensor) -> PointMaps:
    assert maps.points_global is not None and maps.points_local is not None
    return replace(
        maps, points_global=factor * maps.points_global, points_local=factor * maps.points_local
    )


def part(maps: Any, samples: slice, views: slice = slice(None)) -> Any:
    """Some samples and views of predictions or targets."""
    kept = {field.name: getattr(maps, field.name) for field in fields(maps)}
    return type(maps)(
        **{name: None if value is None else value[samples, views] for name, value in kept.items()}
    )


def error(maps: PointMaps, targets: TeacherTargets) -> torch.Tensor:
    return scale_error(TermInputs(maps, targets))


def test_it_is_zero_at_the_true_size_and_the_square_of_the_log_beside_it() -> None:
    _, targets = random_case()
    true = of_targets(targets)
    assert error(true, targets) == 0
    for factor in (1.1, 1 / 1.1):  # the same, either way; one for each of the two maps
        found = error(scaled(true, factor), targets)
        torch.testing.assert_close(found, torch.tensor(2 * math.log(1.1) ** 2).double())
    far = [error(scaled(true, math.exp(size)), targets) for size in (1.0, 2.0, 3.0)]
    torch.testing.assert_close(far[2] - far[1], far[1] - far[0])
    torch.testing.assert_close(far[1] - far[0], torch.tensor(4 * LINEAR_FROM).double())


def test_a_step_against_the_gradient_brings_the_size_nearer() -> None:
    predicted, targets = random_case()
    for factor in (0.2, 5.0):
        scale = torch.tensor(factor, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(
            error(scaled(of_targets(targets), scale), targets), [scale]
        )
        assert (gradient > 0) == (factor > 1)
    student = scaled(predicted, 3.0)
    assert student.points_local is not None
    points = student.points_local.requires_grad_()
    before = error(student, targets)
    (gradient,) = torch.autograd.grad(before, [points])
    assert error(replace(student, points_local=points - 0.1 * gradient), targets) < before


def test_it_and_the_point_terms_share_no_direction() -> None:
    """Points that grow change the term alone; points that turn change the point terms alone."""
    predicted, targets = random_case()
    paper = DistillationLoss()
    torch.testing.assert_close(
        paper(scaled(predicted, 7.0), targets).total, paper(predicted, targets).total
    )
    turned = replace(predicted, points_local=predicted.points_local.flip(-1))  # type: ignore[union-attr]
    torch.testing.assert_close(error(turned, targets), error(predicted, targets))
    assert paper(turned, targets).points_local != paper(predicted, targets).points_local


def test_each_view_has_its_own_size_and_a_sample_one_for_all() -> None:
    _, targets = random_case(views=2)
    true = of_targets(targets)
    factors = torch.tensor([1.1, 1 / 1.1], dtype=torch.float64)[:, None, None, None]
    assert true.points_local is not None
    wrong = replace(true, points_local=true.points_local * factors)
    torch.testing.assert_close(
        error(wrong, targets), torch.tensor(math.log(1.1) ** 2).double()
    )  # the mean of two views, and nothing of the global maps


def test_views_without_a_valid_pixel_add_nothing_and_values_outside_the_mask_do_not_count() -> None:
    predicted, targets = random_case(views=3)
    mask = targets.valid_mask.clone()
    mask[:, 2] = False
    first = replace(targets, valid_mask=mask, stored_points_global=targets.points_global)
    points = predicted.points_local
    assert points is not None
    spoilt = points.masked_fill(~mask[..., None], math.nan).requires_grad_()
    found = error(replace(predicted, points_local=spoilt), first)
    (gradient,) = torch.autograd.grad(found, [spoilt])
    assert gradient.isfinite().all() and not gradient[:, 2].any()
    two = slice(0, 2)
    torch.testing.assert_close(
        found, error(part(predicted, slice(None), two), part(first, slice(None), two))
    )
    nothing = replace(first, valid_mask=torch.zeros_like(mask))
    assert error(predicted, nothing) == 0


def test_a_batch_is_the_mean_of_its_samples() -> None:
    predicted, targets = random_case(samples=3)
    rows = [slice(sample, sample + 1) for sample in range(3)]
    each = [error(part(predicted, one), part(targets, one)) for one in rows]
    torch.testing.assert_close(error(predicted, targets), torch.stack(each).mean())


def test_the_key_adds_the_term_and_its_options_set_the_weight() -> None:
    predicted, targets = random_case()
    assert "scale" not in LossSettings().all_terms
    plain = Objective(LossSettings(metric=True).all_terms)(predicted, targets)
    torch.testing.assert_close(plain.parts["scale"], error(predicted, targets))
    torch.testing.assert_close(
        plain.total - plain.parts["scale"], DistillationLoss()(predicted, targets).total
    )
