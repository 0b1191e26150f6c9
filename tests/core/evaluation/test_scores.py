"""Aggregation, metrics and protocols, by hand and by law."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill3r_core.errors import ConfigError, FailedError
from distill3r_core.evaluation.metric_record import MetricUnit, median
from distill3r_core.evaluation.metrics import METRICS
from distill3r_core.evaluation.predictions import maps_of
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import (
    SequenceScore,
    figures_of,
    metrics_of,
    score_sequence,
    units_of,
)
from distill3r_core.evaluation.truth import Truth

TABLE2 = PROTOCOLS["table2"]


def _score(name, *, acc, scale=None, ratio=None):
    scale = [1.0] * len(acc) if scale is None else scale
    values = dict.fromkeys(TABLE2.metrics, scale)
    values |= {"acc": acc, "comp": [0.1] * len(acc)}
    values |= dict.fromkeys(("scale_norm", "scale_log_spread_views"), ratio or [1.0] * len(acc))
    return SequenceScore(name, len(acc), values)


def _truth(points, mask, *, name="s"):
    count = len(points)
    return Truth(
        name=name,
        world=name,
        view_names=tuple(f"view {index}" for index in range(count)),
        views=(),
        points=points,
        mask=mask,
        intrinsics=torch.eye(3).expand(count, 3, 3),
        poses=None,
        unit="m",
        contents=(),
    )


def _sequence(views: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(views, 6, 7, 3, generator=generator) + torch.tensor([0.0, 0.0, 1.0])
    noisy = truth + 0.05 * torch.randn(truth.shape, generator=generator)
    mask = torch.rand(views, 6, 7, generator=generator) > 0.2
    return noisy, truth, mask


def _figures(predicted, points, mask):
    truth = _truth(points, mask)
    return figures_of([score_sequence(truth, maps_of(predicted, truth), TABLE2)], TABLE2)


def _frames(layout, numbers):
    (window,) = TABLE2.frames(layout, {"scene/one": numbers})
    assert window.name == window.sequence == "scene/one"
    return list(window.frames)


def test_views_are_averaged_before_sequences():
    found = figures_of([_score("a", acc=[0.1, 0.3]), _score("b", acc=[0.4])], TABLE2)
    assert found["acc"] == pytest.approx(100 * (0.2 + 0.4) / 2)  # not (0.1 + 0.3 + 0.4) / 3
    assert found["comp"] == pytest.approx(10)


def test_a_pooled_protocol_reduces_the_values_of_all_sequences_at_once():
    sequences = [_score("a", acc=[0.1, 0.3]), _score("b", acc=[0.5])]
    pooled = figures_of(sequences, replace(TABLE2, aggregation="pooled"))
    assert pooled["acc"] == pytest.approx(100 * (0.1 + 0.3 + 0.5) / 3)


def test_a_figure_that_some_sequence_lacks_is_none_and_not_the_mean_of_the_others():
    whole, lacking = _score("a", acc=[0.1]), _score("b", acc=[0.2])
    lacking = replace(lacking, values={**lacking.values, "acc": None})
    found = figures_of([whole, lacking], TABLE2)
    assert found["acc"] is None
    assert found["comp"] == pytest.approx(10)


def test_the_scale_block_is_that_of_a_case_worked_by_hand():
    first = _score("a", acc=[0.1, 0.1], scale=[1.0, 4.0])
    second = _score("b", acc=[0.1], scale=[8.0], ratio=[2.0])
    found = figures_of([first, second], TABLE2)
    assert found["scale"] == pytest.approx(4)  # sqrt(2 * 8)
    assert found["scale_mean"] == pytest.approx((2.5 + 8) / 2)
    assert found["scale_log_spread"] == pytest.approx(math.log(2))
    assert found["scale_fit_spread_views"] == pytest.approx(math.log(2) / 2)
    assert found["scale_log_spread_views"] == 0  # that of the ratios of norms, which are all 1
    assert found["scale_log_error"] == pytest.approx((math.log(2) + math.log(8)) / 2)
    assert found["scale_norm"] == pytest.approx(math.sqrt(2))


def test_two_views_whose_norms_differ_by_a_factor_of_e_have_a_spread_of_a_half():
    views = _score("a", acc=[0.1, 0.1], scale=[3.0, 3.0], ratio=[1.0, math.e])
    found = figures_of([views], TABLE2)
    assert found["scale_log_spread_views"] == pytest.approx(0.5)
    assert found["scale_fit_spread_views"] == 0
    _, truth, mask = _sequence(2)
    measured = _figures(truth / torch.tensor([1.0, math.e])[:, None, None, None], truth, mask)
    assert measured["scale_log_spread_views"] == pytest.approx(0.5, abs=1e-6)
    assert measured["scale_fit_spread_views"] == pytest.approx(0.5, abs=1e-6)


def test_the_depth_block_is_that_of_a_plane_worked_by_hand():
    rows, columns = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    truth = torch.stack([columns, rows, torch.full_like(rows, 2.0)], -1)[None]
    noisy, mask = truth.clone(), torch.ones(1, 10, 10, dtype=torch.bool)
    noisy[0, 0, :, 2] = 2.6  # a tenth is 30 percent off,
    noisy[0, 1, :, 2] = 2.08  # a tenth 4 percent: the median is right
    found = _figures(noisy, truth, mask)
    expected = {
        "abs_rel": 0.1 * (0.3 + 0.04),
        "sq_rel": 100 * 0.1 * (0.6**2 + 0.08**2) / 2,  # cm
        "rmse": 100 * math.sqrt(0.1 * (0.6**2 + 0.08**2)),
        "log_rmse": math.sqrt(0.1 * (math.log(1.3) ** 2 + math.log(1.04) ** 2)),
        "delta_125": 0.9,
        "delta_125_2": 1.0,
        "delta_125_3": 1.0,
        "inlier_103": 0.8,
        "inlier_105": 0.9,
        "inlier_110": 0.9,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["table2", "held-out"])
def test_all_figures_of_maps_are_in_the_default_protocols_beside_their_columns(name):
    protocol = PROTOCOLS[name]
    wanted = {
        "acc", "comp", "chamfer", "fscore", "abs_rel", "sq_rel", "rmse", "log_rmse", "delta_125",
        "delta_125_2", "delta_125_3", "inlier_103", "inlier_105", "inlier_110", "focal_error",
        "fused", "fused_true_poses", "scale_norm", "scale_log_spread_views",
        "scale_fit_spread_views",
    }  # fmt: skip
    assert wanted <= set(protocol.metrics)
    assert set(protocol.columns) <= set(protocol.metrics)
    assert len(protocol.columns) == 7  # as many as a screen of 80 holds


def _two_views(distance: float) -> Truth:
    """Two cameras that see the same points, the second one beside the first."""
    _, points, _ = _sequence(1)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[1, 0, 3] = distance
    mask = torch.ones(2, 6, 7, dtype=torch.bool)
    return replace(_truth(points.repeat(2, 1, 1, 1), mask), poses=poses)


def test_a_view_in_the_wrong_place_is_half_its_shift_from_the_truth_on_either_side():
    truth, shift = _two_views(0.3), 0.3
    # Both cameras predicted at one place: the best similarity is a shift by the half.
    maps = maps_of(truth.points, truth, poses=torch.eye(4).repeat(2, 1, 1).double())
    found = figures_of([score_sequence(truth, maps, TABLE2)], TABLE2)
    assert found["fused"] == pytest.approx(100 * shift / 2, rel=1e-6)
    assert found["fused_true_poses"] == pytest.approx(0, abs=1e-4)
    placed = maps_of(truth.points, truth, poses=truth.poses)
    found = figures_of([score_sequence(truth, placed, TABLE2)], TABLE2)
    assert found["fused"] == pytest.approx(0, abs=1e-4)


def test_a_focal_length_that_is_a_tenth_too_long_is_off_by_ten_percent():
    _, points, mask = _sequence(2)
    pixels = torch.stack(
        torch.meshgrid(torch.arange(7) + 0.5, torch.arange(6) + 0.5, indexing="xy"), -1
    )
    k = torch.tensor([[8.0, 0, 3.5], [0, 8, 3], [0, 0, 1]])
    rays = torch.cat([(pixels - k[:2, 2]) / 8, torch.ones(6, 7, 1)], -1)
    truth = replace(_truth(rays * points[..., 2:], mask), intrinsics=k.expand(2, 3, 3))
    for longer, percent in ((1.1, 10.0), (1.0, 0.0), (0.9, 10.0)):
        seen = truth.points / torch.tensor([longer, longer, 1.0])
        found = figures_of([score_sequence(truth, maps_of(seen, truth), TABLE2)], TABLE2)
        assert found["focal_error"] == pytest.approx(percent, abs=1e-3)


def test_half_the_truth_scores_zero_and_scale_two():
    _, truth, mask = _sequence()
    found = _figures(truth / 2, truth, mask)
    assert found["acc"] == pytest.approx(0, abs=1e-4)
    assert found["comp"] == pytest.approx(0, abs=1e-4)
    assert found["chamfer"] == pytest.approx(0, abs=1e-4)
    assert found["fscore"] == 1
    assert found["scale"] == pytest.approx(2, abs=1e-6)
    assert found["scale_mean"] == pytest.approx(2, abs=1e-6)
    assert found["scale_log_spread"] == pytest.approx(0, abs=1e-6)


@given(order=st.permutations(range(4)))
def test_the_order_of_the_views_changes_no_figure(order):
    noisy, truth, mask = _sequence(4)
    once = _figures(noisy, truth, mask)
    again = _figures(noisy[order], truth[order], mask[order])
    measured = {name for name, figure in once.items() if figure is not None}
    assert measured >= {"acc", "comp", "abs_rel", "fused_true_poses", "focal_error", "scale_norm"}
    assert {name for name, figure in again.items() if figure is not None} == measured
    for name in measured:
        assert again[name] == pytest.approx(once[name], rel=1e-9), name


def test_every_figure_has_a_unit_and_every_metric_its_own_key():
    figures = figures_of([_score("a", acc=[0.1])], TABLE2)
    assert units_of(TABLE2, "m").keys() == units_of(TABLE2, "none").keys() == figures.keys()
    assert units_of(TABLE2, "m")["acc"] == "cm"
    names = [metric.name for metric in metrics_of(TABLE2)]
    assert len(set(names)) == len(names)


def test_a_metric_and_a_protocol_are_added_by_records_alone():
    worst = replace(
        METRICS["acc"], name="worst", unit=MetricUnit("mm", "units", factor=1000.0), within=max
    )
    METRICS.add("worst of a test", worst)
    protocol = replace(TABLE2, name="test", metrics=("worst of a test", "scale"))
    noisy, points, mask = _sequence()
    truth = _truth(points, mask)
    score = score_sequence(truth, maps_of(noisy, truth), protocol)
    figures = figures_of([score], protocol)
    assert figures.keys() == {"worst", "scale"}
    assert figures["worst"] == pytest.approx(1000 * max(score.values["worst"]))
    assert median([3.0, 1.0, 2.0]) == 2


@pytest.mark.parametrize("fault", ["not finite", "a point", "a line"])
def test_a_view_that_cannot_be_aligned_is_named_and_leaves_its_sequence_without_figures(fault):
    noisy, points, mask = _sequence()
    mask[1, 0, 0] = True
    if fault == "not finite":
        noisy[1, 0, 0] = math.nan
    else:
        noisy[1] = torch.tensor([1.0, 2.0, 3.0])
        noisy[1] *= torch.arange(7.0)[:, None] if fault == "a line" else 1
    truth = _truth(points, mask, name="scene/one")
    score = score_sequence(truth, maps_of(noisy, truth), TABLE2)
    assert score.unaligned is not None and score.unaligned.startswith("scene/one, view 1: ")
    whole = score_sequence(truth, maps_of(points, truth), TABLE2)
    assert whole.unaligned is None
    for figures in (figures_of([score], TABLE2), figures_of([whole, score], TABLE2)):
        assert all(figures[name] is None for name in ("acc", "comp", "chamfer", "scale"))
        assert (figures["abs_rel"] is None) == (fault == "not finite")


def test_a_truth_that_fixes_nothing_is_refused_and_named():
    noisy, points, mask = _sequence()
    points[1] = torch.tensor([1.0, 2.0, 3.0])
    truth = _truth(points, mask, name="scene/one")
    with pytest.raises(FailedError, match=r"scene/one, view 1: the truth cannot be aligned"):
        score_sequence(truth, maps_of(noisy, truth), TABLE2)


def test_frames_of_7_scenes_are_chosen_by_their_own_number():
    every_fifth = [5 * index for index in range(20)]
    assert [every_fifth[i] for i in _frames("7scenes", every_fifth)] == [0, 20, 40, 60, 80]
    assert _frames("7scenes", [0, 20, 35, 60, 61]) == [0, 1, 3]


@pytest.mark.parametrize(("count", "step"), [(1, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_other_layouts_keep_at_most_fifty_frames(count, step):
    chosen = _frames("rgbd", list(range(count)))
    assert chosen == list(range(0, count, step))
    assert len(chosen) <= 50


def test_an_unknown_protocol_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'table2'"):
        PROTOCOLS["tabel2"]
