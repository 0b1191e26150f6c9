"""The terms of pair students: recorded values, laws, and cases worked by hand."""

import math
from dataclasses import replace

import pytest
import torch
from loss_cases import random_case, sample_of
from small_caches import made_sample
from torch.utils._python_dispatch import TorchDispatchMode

from distill3r_core.config import validate
from distill3r_core.data.loading.batches import map_targets
from distill3r_core.losses import LossSettings, Objective
from distill3r_core.losses.feature_similarity import (
    FeatureSimilarity,
    RelationOptions,
    SimilarityOptions,
    relation,
    relation_divergence,
    similarity,
)
from distill3r_core.losses.gradients import GradientOptions, gradient_error, map_gradient_error
from distill3r_core.losses.loss_term import TermInputs
from distill3r_core.losses.planes import (
    NO_PLANE,
    PlaneOptions,
    find_planes,
    plane_error,
    thickness,
)
from distill3r_core.losses.regression import RegressionOptions, regression_error
from distill3r_core.types import PointMaps, TeacherTargets


def test_the_cosine_of_unlearned_tokens_is_the_recorded_one(recorded_starts, draw_golden):
    facts = recorded_starts["feature_loss"]
    student = draw_golden("input/feat_s", (2, 6, 3, 4)).movedim(1, -1)
    projected = student @ draw_golden("proj.weight", (8, 6)).T
    teacher = projected + 0.35 * draw_golden("input/feat_n", (2, 8, 3, 4)).movedim(1, -1)
    for threshold, wanted in facts["margin"].items():
        found = similarity(projected, teacher, threshold=float(threshold))
        assert float(found) == pytest.approx(wanted["loss"], rel=1e-7), threshold


def test_the_term_of_features_has_the_recorded_value_of_each_sample(recorded_starts, draw_golden):
    """The record pools the tokens of both samples; the term takes the mean of the samples."""
    facts = recorded_starts["feature_loss"]
    tokens, weight = (
        draw_golden("input/feat_s", (2, 6, 3, 4)).movedim(1, -1),
        draw_golden("proj.weight", (8, 6)),
    )
    teacher = tokens @ weight.T + 0.35 * draw_golden("input/feat_n", (2, 8, 3, 4)).movedim(1, -1)
    cosine = torch.tensor(facts["cosine"], dtype=torch.float64)  # (2, 3, 4)
    for margin, wanted in facts["margin"].items():
        term = FeatureSimilarity(SimilarityOptions(threshold=float(margin)))
        term.prepare({"adapter": torch.zeros(1, 1, 6)}, {"enc_norm": 8})
        assert term.projector is not None
        term.double().projector.weight.data.copy_(weight)

        def cost(*samples: int, term=term) -> float:
            picked = list(samples)
            one = torch.ones(len(picked), 1, 3, 4)
            points = one[..., None].expand(-1, -1, -1, -1, 3)
            targets = TeacherTargets(
                points, one, one, one.bool(), torch.eye(3, 4).expand(len(picked), 1, 3, 4)
            )
            features = {"enc_norm": teacher[picked][:, None]}
            student = {"adapter": tokens[picked].flatten(1, 2)}
            inputs = TermInputs(PointMaps(points, points, one, one), targets, features, student)
            return float(term(inputs).detach())

        counts = [sample[sample < float(margin)] for sample in cosine]
        each = [cost(0), cost(1)]
        by_hand = [float((1 - row).mean()) if len(row) else 0.0 for row in counts]
        assert each == pytest.approx(by_hand, rel=1e-7), margin
        assert cost(0, 1) == pytest.approx(sum(each) / 2, rel=1e-7), margin
        numbers = [len(row) for row in counts]
        assert sum(numbers) == wanted["pixels"]
        pooled = sum(value * number for value, number in zip(each, numbers, strict=True))
        assert pooled / sum(numbers) == pytest.approx(wanted["loss"], rel=1e-7), margin
        if 0 in numbers:  # one sample has all the tokens that count: the record is its own
            assert max(each) == pytest.approx(wanted["loss"], rel=1e-7)
        if numbers[0] == numbers[1]:  # as many in each: both ways of averaging agree
            assert cost(0, 1) == pytest.approx(wanted["loss"], rel=1e-7)


def test_learned_tokens_cost_nothing_and_have_no_gradient():
    tokens = torch.randn(1, 2, 3, 4, 5, requires_grad=True)
    loss = similarity(tokens, 3 * tokens.detach(), threshold=0.9)
    loss.backward()
    assert loss == 0
    assert torch.equal(tokens.grad, torch.zeros_like(tokens))


def test_the_divergence_of_relations_is_the_recorded_one(recorded_starts, draw_golden):
    student, teacher = (
        torch.stack([draw_golden(f"input/rel_{side}{view}", (12, width)) for view in (1, 2)])[None]
        for side, width in (("s", 6), ("t", 8))
    )
    found = relation_divergence(student, teacher, temperature=0.1)
    assert float(found) == pytest.approx(recorded_starts["relational_loss"]["value"], rel=1e-7)
    assert float(relation_divergence(teacher, teacher, temperature=0.1)) == pytest.approx(0)


def test_the_difference_of_derivatives_is_the_recorded_one(recorded_starts, draw_golden):
    facts = recorded_starts["gradient_loss"]
    student, teacher = (draw_golden(f"input/pts_{side}", (1, 5, 6, 3))[:, None] for side in "st")
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    mask = ((rows + columns) % 4 != 0)[None, None]
    for masked, wanted in (
        (False, facts["released_total"]),
        (True, facts["proposed_total_all_masked"]),
    ):
        options = GradientOptions(masked=masked)
        found = map_gradient_error(student, teacher, mask, options=options)
        assert float(found) == pytest.approx(wanted, rel=1e-7)
    only_depth = map_gradient_error(student, teacher, mask, options=GradientOptions(lateral=0.0))
    assert float(only_depth) == pytest.approx(facts["z_masked"], rel=1e-7)


def test_the_term_as_released_has_the_recorded_value(recorded_starts, draw_golden):
    facts = recorded_starts["gradient_loss"]
    student, teacher = (draw_golden(f"input/pts_{side}", (1, 5, 6, 3))[:, None] for side in "st")
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    mask, one = ((rows + columns) % 4 != 0)[None, None], torch.ones(1, 1, 5, 6)

    def cost(mask: torch.Tensor, **options) -> float:
        targets = TeacherTargets(teacher, one, one, mask, torch.eye(3, 4)[None, None])
        inputs = TermInputs(PointMaps(student, student, one, one), targets)
        return float(gradient_error(inputs, options=GradientOptions(**options)))

    assert cost(mask, masked=False) == pytest.approx(facts["released_total"], rel=1e-7)
    # By default only pixels count all of whose neighbors are valid, and this mask has none: the
    # record of masked derivatives is that of the pixels of the mask, above.
    assert cost(mask) == 0
    # Where all pixels are valid, the sides are those recorded of every pixel.
    whole = torch.ones_like(mask)
    sides = cost(whole, lateral=1.0) - cost(whole, lateral=0.0)
    assert sides == pytest.approx(facts["x_unmasked_mean"] + facts["y_unmasked_mean"], rel=1e-7)
    assert cost(whole) == pytest.approx(cost(whole, masked=False), rel=1e-12)


def test_the_first_view_alone_counts_as_released():
    targets = batch_of(views=3)
    maps = predicted(targets, off=0.0, confidence=1.0)
    ramp = torch.arange(21.0)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    bent = replace(maps, points_local=maps.points_local.clone())
    bent.points_local[:, 1:] += ramp
    options = GradientOptions(anchor_only=True)
    assert gradient_error(TermInputs(bent, targets), options=options) == 0
    assert gradient_error(TermInputs(bent, targets), options=GradientOptions()) > 0
    bent.points_local[:, :1] += ramp
    assert gradient_error(TermInputs(bent, targets), options=options) > 0


def test_a_shift_of_a_map_changes_no_derivative():
    points, mask = torch.randn(1, 2, 6, 7, 3), torch.ones(1, 2, 6, 7, dtype=torch.bool)
    moved = points + torch.tensor([1.0, -2.0, 3.0])
    error = map_gradient_error(points, moved, mask, options=GradientOptions())
    assert float(error) == pytest.approx(0, abs=1e-5)


def batch_of(views: int = 2, size: tuple[int, int] = (14, 21)) -> TeacherTargets:
    _, targets = made_sample(3, views=views, size=size)
    return map_targets(targets, lambda values: values[None])


def predicted(targets: TeacherTargets, *, off: float, confidence: float) -> PointMaps:
    shift = torch.tensor([0.0, 0.0, off])
    flat = torch.full_like(targets.confidence_local, confidence)
    return PointMaps(
        points_global=targets.points_global + shift,
        points_local=targets.points_local + shift,
        confidence_global=flat,
        confidence_local=flat,
    )


def test_regression_is_confidence_times_distance_less_its_logarithm():
    targets = batch_of()
    inputs = TermInputs(predicted(targets, off=0.5, confidence=4.0), targets)
    found = regression_error(inputs, options=RegressionOptions())
    assert float(found) == pytest.approx(4 * 0.5 - 0.2 * math.log(4), rel=1e-5)
    cached = torch.cat(
        [
            targets.confidence_global[targets.valid_mask],
            targets.confidence_local[:, 1:][targets.valid_mask[:, 1:]],
        ]
    )
    wanted = (0.5 * cached + 0.2 * (4 - cached).abs()).mean()
    by_teacher = regression_error(inputs, options=RegressionOptions(confidence="teacher"))
    torch.testing.assert_close(by_teacher, wanted)


def test_regression_ignores_what_is_not_valid():
    targets = batch_of()
    maps = predicted(targets, off=0.5, confidence=4.0)
    outside = ~targets.valid_mask
    points = maps.points_global.clone()
    points[outside] = torch.nan
    points.requires_grad_()
    for options in (RegressionOptions(), RegressionOptions(normalize=True)):
        inputs = TermInputs(replace(maps, points_global=points), targets)
        found = regression_error(inputs, options=options)
        (gradient,) = torch.autograd.grad(found, points)
        assert found.isfinite()
        assert (gradient[outside] == 0).all()


def test_normalized_regression_ignores_the_unit():
    targets = batch_of()
    maps = predicted(targets, off=0.1, confidence=2.0)
    scaled = replace(
        maps, points_global=1000 * maps.points_global, points_local=1000 * maps.points_local
    )
    options = RegressionOptions(normalize=True)
    found = [regression_error(TermInputs(one, targets), options=options) for one in (maps, scaled)]
    torch.testing.assert_close(found[0], found[1])


def corner(height: int = 42, width: int = 56) -> torch.Tensor:
    """A wall at 45 degrees to each side of the picture's middle column: two planes."""
    rows, columns = torch.meshgrid(
        torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij"
    )
    x, y = (columns - width / 2) / width, (rows - height / 2) / width
    depth = 2 / (1 + x.abs())
    return torch.stack([x * depth, y * depth, depth], -1)


def test_the_planes_of_a_corner_are_its_two_walls():
    points = corner()[None]
    mask = torch.ones(points.shape[:3], dtype=torch.bool)
    labels = find_planes(points, mask, options=PlaneOptions())[0]
    left, right = labels[:, :21], labels[:, -21:]
    assert left.unique().tolist() != right.unique().tolist()
    assert left.unique().numel() == right.unique().numel() == 1
    assert NO_PLANE not in left
    assert float(thickness(points[0][labels == int(left[0, 0])])) == pytest.approx(0, abs=1e-5)


def test_rough_ground_has_no_plane():
    points = corner()[None] + 0.1 * torch.randn(1, 42, 56, 3)
    mask = torch.ones(points.shape[:3], dtype=torch.bool)
    assert (find_planes(points, mask, options=PlaneOptions()) == NO_PLANE).all()


def test_a_slab_is_as_thick_as_it_is():
    slab = torch.rand(20_000, 3) * torch.tensor([4.0, 4.0, 1.0])
    # Variance goes with the square: 1 of 16 + 16 + 1.
    assert float(thickness(slab)) == pytest.approx(1 / 33, rel=0.05)


def test_the_planes_of_a_student_are_pulled_flat():
    targets = batch_of(views=1)
    flat = corner(14, 21)[None, None]
    targets = replace(targets, points_local=flat, valid_mask=torch.ones(1, 1, 14, 21) > 0)
    bent = (flat + 0.05 * torch.sin(40 * flat)).requires_grad_()
    settings = {"alpha_global": 0, "alpha_local": 0, "gamma": 0, "terms": {"planar": {"cell": 3}}}
    objective = Objective(validate(LossSettings, settings, source="a test").all_terms)
    one = torch.ones(1, 1, 14, 21)
    found = objective(PointMaps(bent, bent, one, one), targets)
    (gradient,) = torch.autograd.grad(found.total, bent)
    assert found.total > 0
    with torch.no_grad():
        step = bent - 0.1 * gradient / gradient.norm()
        assert objective(PointMaps(step, step, one, one), targets).total < found.total


def test_the_projector_is_of_the_widths_that_meet():
    term = FeatureSimilarity(SimilarityOptions())
    term.prepare({"adapter": torch.zeros(4, 6, 12)}, {"enc_norm": 20})
    assert term.projector is not None
    assert term.projector.weight.shape == (20, 12)
    targets = batch_of(size=(32, 48))
    inputs = TermInputs(
        predicted(targets, off=0.0, confidence=2.0),
        targets,
        {"enc_norm": torch.randn(1, 2, 4, 6, 20)},  # on a finer grid: resized
        {"adapter": torch.randn(2, 6, 12)},
    )
    assert 0 < float(term(inputs).detach()) < 2


TERMS = {
    "regression": lambda inputs: regression_error(inputs, options=RegressionOptions()),
    "gradient": lambda inputs: gradient_error(inputs, options=GradientOptions()),
    "planar": lambda inputs: plane_error(inputs, options=PlaneOptions(cell=3)),
    "feature": lambda inputs: _similarity_term()(inputs),
    "relational": lambda inputs: relation(RelationOptions(), inputs),
}


def _similarity_term() -> FeatureSimilarity:
    torch.manual_seed(0)
    term = FeatureSimilarity(SimilarityOptions(threshold=0.1))  # about half of the tokens count
    term.prepare({"adapter": torch.zeros(1, 1, 12)}, {"enc_norm": 20})
    return term


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_costs_the_mean_of_its_samples(name: str) -> None:
    """Else accumulation and the number of processes would change what is learned."""
    points, columns = corner(), torch.arange(56)
    views = 2
    seen = torch.stack([columns < 56, columns < 30])[:, None, None]
    mask = seen.expand(2, views, 42, 56)
    wanted = points.expand(2, views, 42, 56, 3)
    far = torch.tensor([0.1, 0.5])[:, None, None, None, None] * torch.sin(40 * wanted)
    one = torch.full((2, views, 42, 56), 2.0)
    maps = PointMaps(wanted + far, wanted + far, one, one)
    similarities = torch.eye(3, 4).expand(2, views, 3, 4)
    targets = TeacherTargets(wanted, one, one, mask, similarities)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, views, 6, 12, generator=generator)
    features = torch.randn(2, views, 2, 3, 20, generator=generator)

    def cost(picked: slice) -> torch.Tensor:
        number = picked.start
        both = (maps, targets) if number is None else (
            sample_of(maps, number), sample_of(targets, number)
        )  # fmt: skip
        return TERMS[name](
            TermInputs(
                *both,
                {"enc_norm": features[picked]},
                {"adapter": tokens[picked].flatten(0, 1)},
            )
        ).detach()

    each = torch.stack([cost(slice(0, 1)), cost(slice(1, 2))])
    assert each[0] != each[1]
    torch.testing.assert_close(cost(slice(None)), each.mean())


def test_derivatives_do_not_read_the_zeros_outside_the_mask() -> None:
    targets = batch_of()
    masked = torch.where(targets.valid_mask[..., None], targets.points_local, 0.0)
    targets = replace(targets, points_local=masked)
    maps = predicted(targets, off=0.0, confidence=1.0)
    inside = targets.valid_mask[..., None]
    elsewhere = replace(maps, points_local=torch.where(inside, masked, 7.0))
    for normalize in (False, True):
        options = GradientOptions(normalize=normalize)
        assert gradient_error(TermInputs(elsewhere, targets), options=options) == 0


def test_regression_leaves_out_the_global_points_of_local_only_views() -> None:
    maps, targets = random_case(samples=2)
    alone = torch.tensor([[False, False], [True, True]])
    moved = targets.stored_points_global
    assert moved is not None
    targets = replace(targets, local_only=alone)
    elsewhere = replace(targets, stored_points_global=moved + 5 * alone[..., None, None, None])
    for options in (RegressionOptions(), RegressionOptions(normalize=True)):
        costs = [
            regression_error(TermInputs(maps, one), options=options) for one in (targets, elsewhere)
        ]
        torch.testing.assert_close(costs[0], costs[1])
        local = replace(targets, local_only=None)
        assert costs[0] != regression_error(TermInputs(maps, local), options=options)


def test_planes_of_a_full_image_need_no_tensor_of_cell_differences() -> None:
    """A table of numbers per pair of cells may be made, one of vectors may not."""

    class Largest(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.found = max(self.found, result.numel())
            return result

    points = corner(84, 112)[None]
    mask = torch.ones(points.shape[:3], dtype=torch.bool)
    with Largest() as largest:
        find_planes(points, mask, options=PlaneOptions(cell=3))
    cells = (84 // 3) * (112 // 3)
    assert largest.found <= cells * cells
