"""The paper's loss: its equations by hand, what it must not see, and how batches add up."""

from dataclasses import fields, replace

import pytest
import torch
from loss_cases import random_case

from distill3r_core.losses import DistillationLoss
from distill3r_core.types import PointMaps, TeacherTargets

MAPS = tuple(field.name for field in fields(PointMaps) if not field.name.startswith("log_"))


def value_and_gradients(
    loss: DistillationLoss, predicted: PointMaps, targets: TeacherTargets
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    leaves = {name: getattr(predicted, name).clone().requires_grad_() for name in MAPS}
    total = loss(PointMaps(**leaves), targets).total
    total.backward()
    gradients = {}
    for name, leaf in leaves.items():
        gradients[name] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return total.detach(), gradients


def pick(record: PointMaps | TeacherTargets, rows: slice) -> PointMaps | TeacherTargets:
    kept = {field.name: getattr(record, field.name) for field in fields(record)}
    return type(record)(
        **{name: None if value is None else value[rows] for name, value in kept.items()}
    )


def test_equations_two_to_six_worked_by_hand() -> None:
    # One sample of two views of two pixels; the second pixel of the second view does not count.
    def maps(*values: tuple[float, float, float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32).reshape(1, 2, 1, 2, 3)

    def scalars(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32).reshape(1, 2, 1, 2)

    predicted = PointMaps(
        points_global=maps((0, 0, 1), (0, 0, 2), (0, 3, 0), (9, 9, 9)),  # s = 6/3 = 2
        points_local=maps((0, 0, 1), (0, 0, 3), (0, 0, 5), (9, 9, 9)),  # s_k = 2 and 5
        confidence_global=scalars(2, 3, 4, 99),
        confidence_local=scalars(1, 1, 2, 99),
    )
    targets = TeacherTargets(
        points_local=maps((0, 0, 2), (0, 0, 2), (0, 4, 0), (7, 7, 7)),  # s_k = 2 and 4
        confidence_local=scalars(1, 3, 2, 77),
        confidence_global=scalars(2, 4, 6, 77),
        valid_mask=torch.tensor([True, True, True, False]).reshape(1, 2, 1, 2),
        global_from_local=torch.eye(3, 4).expand(1, 2, 3, 4),
        stored_points_global=maps((0, 0, 1), (0, 0, 1), (0, 1, 0), (7, 7, 7)),  # s = 1
    )
    # Global: normalized (0,0,.5) (0,0,1) (0,1.5,0) against (0,0,1) (0,0,1) (0,1,0), weights 2 4 6.
    by_hand_global = (2 * 0.25 + 4 * 0.0 + 6 * 0.25) / 3
    # Local: (0,0,.5) (0,0,1.5) | (0,0,1) against (0,0,1) (0,0,1) | (0,1,0), weights 1 3 2.
    by_hand_local = (1 * 0.25 + 3 * 0.25 + 2 * 2.0) / 3
    by_hand_confidence = ((0 + 1 + 2) + (0 + 2 + 0)) / (2 * 3)
    terms = DistillationLoss()(predicted, targets)
    assert terms.points_global.item() == pytest.approx(2.0 * by_hand_global)
    assert terms.points_local.item() == pytest.approx(1.0 * by_hand_local)
    assert terms.confidence.item() == pytest.approx(0.001 * by_hand_confidence)
    assert terms.total.item() == pytest.approx(
        2 * by_hand_global + by_hand_local + 0.001 * by_hand_confidence
    )


@pytest.mark.parametrize("reduction", ["paper", "released"])
@pytest.mark.parametrize("weighting", ["paper", "released", "none", "student"])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_what_stands_outside_the_mask_changes_neither_loss_nor_gradient(
    reduction: str, weighting: str, poison: float
) -> None:
    predicted, targets = random_case()
    mask = targets.valid_mask.clone()
    mask[0, 1] = False  # an empty view
    mask[2] = False  # an empty sample
    targets = replace(targets, valid_mask=mask)
    loss = DistillationLoss(weighting=weighting, reduction=reduction)  # type: ignore[arg-type]
    clean = value_and_gradients(loss, predicted, targets)

    def poisoned(values: torch.Tensor) -> torch.Tensor:
        selected = mask if values.ndim == 4 else mask[..., None]
        return torch.where(selected, values, poison)

    stored = targets.stored_points_global
    assert stored is not None
    targets = replace(
        targets,
        points_local=poisoned(targets.points_local),
        confidence_local=poisoned(targets.confidence_local),
        confidence_global=poisoned(targets.confidence_global),
        stored_points_global=poisoned(stored),
    )
    predicted = PointMaps(**{name: poisoned(getattr(predicted, name)) for name in MAPS})
    dirty = value_and_gradients(loss, predicted, targets)
    torch.testing.assert_close(dirty, clean)
    assert all(gradient.isfinite().all() for gradient in dirty[1].values())


@pytest.mark.parametrize("weighting", ["paper", "released", "none", "student"])
@pytest.mark.parametrize(("reduction", "valid"), [("paper", 0.6), ("released", 2.0)])
def test_a_batch_is_the_mean_of_its_samples(weighting: str, reduction: str, valid: float) -> None:
    predicted, targets = random_case(valid=valid)
    loss = DistillationLoss(weighting=weighting, reduction=reduction)  # type: ignore[arg-type]
    total, gradients = value_and_gradients(loss, predicted, targets)
    samples = [slice(row, row + 1) for row in range(3)]
    parts = [
        value_and_gradients(loss, pick(predicted, row), pick(targets, row))  # type: ignore[arg-type]
        for row in samples
    ]
    torch.testing.assert_close(total, torch.stack([value for value, _ in parts]).mean())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, torch.cat([grads[name] for _, grads in parts]) / 3)


def test_the_unit_of_the_student_and_of_the_teacher_do_not_matter() -> None:
    predicted, targets = random_case()
    loss = DistillationLoss(gamma=0.0)
    stored = targets.stored_points_global
    assert stored is not None
    other = replace(
        targets, points_local=1000 * targets.points_local, stored_points_global=1000 * stored
    )
    scaled = replace(
        predicted,
        points_global=0.1 * predicted.points_global,
        points_local=0.1 * predicted.points_local,
    )
    torch.testing.assert_close(loss(scaled, other).total, loss(predicted, targets).total)


@pytest.mark.parametrize("weighting", ["paper", "none"])
def test_confidence_that_is_not_distilled_may_be_anything(weighting: str) -> None:
    """Nothing holds it then: exp of its logit may overflow."""
    predicted, targets = random_case()
    loss = DistillationLoss(weighting=weighting, gamma=0.0)
    wild = replace(predicted, confidence_local=torch.full_like(targets.confidence_local, torch.inf))
    assert loss(wild, targets).total.isfinite()
    assert loss(wild, targets).total == loss(predicted, targets).total


def test_only_the_student_weighting_teaches_confidence_through_the_weight() -> None:
    predicted, targets = random_case()
    for weighting, taught in (("released", False), ("paper", False), ("student", True)):
        loss = DistillationLoss(weighting=weighting, gamma=0.0)  # type: ignore[arg-type]
        _, gradients = value_and_gradients(loss, predicted, targets)
        assert bool(gradients["confidence_local"].abs().max() > 0) is taught
