"""Slopes and hazards of the lunar protocol, by hand and by law."""

import math
from dataclasses import replace

import pytest
import torch

from distill3r_core.evaluation.metrics import METRICS
from distill3r_core.evaluation.paired_differences import paired_difference
from distill3r_core.evaluation.predictions import maps_of
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import figures_of, score_sequence
from distill3r_core.evaluation.terrain.slope_metrics import correlation, slopes
from distill3r_core.evaluation.truth import Truth
from distill3r_core.losses.gradients import inner

LUNAR = PROTOCOLS["lunar"]


def test_a_ramp_has_the_slope_of_its_rise_per_pixel():
    depth = 10 + 0.2 * torch.arange(8.0)[None, :, None].expand(1, 8, 9)
    inside = slopes(depth)[0, 1:-1, 1:-1]
    # Sobel over 8 is the mean difference of two pixels, halved.
    wanted = math.degrees(math.atan(0.2))
    torch.testing.assert_close(inside, torch.full_like(inside, wanted), rtol=1e-5, atol=1e-4)


def test_pixels_beside_an_invalid_one_do_not_count():
    mask = torch.ones(1, 5, 5, dtype=torch.bool)
    mask[0, 2, 2] = False
    assert inner(mask)[0].sum() == 25 - 9


def test_correlation_ignores_scale_and_offset():
    values = torch.randn(200, dtype=torch.float64)
    assert correlation(3 * values - 1, values) == pytest.approx(1)
    assert correlation(-values, values) == pytest.approx(-1)
    assert correlation(torch.ones(5), torch.arange(5.0)) == 0


def ground(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of a tilted, wavy ground seen by two cameras, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    waves = torch.rand(2, 2, generator=generator)
    depth = torch.stack(
        [
            20 + 0.2 * rows + 2 * torch.sin(columns / 3 + a) * torch.cos(rows / 4 + b)
            for a, b in waves
        ]
    )
    rays = torch.stack([(columns - 16) / 30, (rows - 12) / 30, torch.ones(24, 32)], -1)
    mask = torch.rand(2, 24, 32, generator=generator) > 0.02
    return depth[..., None] * rays, mask


def truth_of(points: torch.Tensor, mask: torch.Tensor) -> Truth:
    return Truth(
        name="s",
        world="s",
        view_names=("a", "b"),
        views=(),
        points=points,
        mask=mask,
        intrinsics=torch.eye(3).expand(2, 3, 3),
        poses=torch.eye(4, dtype=torch.float64).repeat(2, 1, 1),
        unit="m",
        contents=(),
    )


def figures(predicted: torch.Tensor, points: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    truth = truth_of(points, mask)
    poses = torch.eye(4).repeat(2, 1, 1)
    score = score_sequence(truth, maps_of(predicted, truth, poses=poses), LUNAR)
    return {
        name: METRICS[name].within(values)
        for name, values in score.values.items()
        if values is not None and len(values)
    }


def test_the_truth_in_another_unit_is_perfect():
    points, mask = ground(1)
    found = figures(0.1 * points, points, mask)
    for name, wanted in {"depth_mae": 0, "slope_rmse": 0, "silog": 0, "chamfer": 0}.items():
        assert found[name] == pytest.approx(wanted, abs=1e-3), name
    assert found["slope_correlation"] == pytest.approx(1)
    for degrees in (5, 10, 15, 20):
        assert found[f"hazard_{degrees}"] == pytest.approx(1)
        assert found.get(f"hazard_missed_{degrees}", 0) == pytest.approx(0)


def test_level_ground_misses_every_hazard_and_raises_no_alarm():
    points, mask = ground(2)
    level = torch.full_like(points, 20.0)
    level[..., :2] = points[..., :2]
    found = figures(level, points, mask)
    assert found["hazard_missed_15"] == pytest.approx(1)
    assert found["hazard_false_15"] == pytest.approx(0)
    true = slopes(torch.where(mask, points[..., 2], 0.0).double())[inner(mask)]
    assert found["hazard_15"] == pytest.approx(float((true <= 15).double().mean()), abs=0.05)


def scored(name: str, predicted: torch.Tensor, points: torch.Tensor, mask: torch.Tensor):
    truth = replace(truth_of(points, mask), name=name)
    return score_sequence(truth, maps_of(predicted, truth, poses=truth.poses), LUNAR)


def ramp(rise: float, rows: int = 24) -> torch.Tensor:
    """Points of two views of ground that rises so much per row, in the first rows only."""
    points, _ = ground(0)
    depth = 20 + rise * torch.arange(24.0).clamp(max=rows)[:, None].expand(24, 32)
    return (points / points[..., 2:]) * depth[..., None]


def test_missed_hazards_are_a_share_of_those_of_all_pairs():
    mask = torch.ones(2, 24, 32, dtype=torch.bool)
    steep, half, level = ramp(0.4), ramp(0.4, rows=12), ramp(0.0)
    # Slopes of 21.8 degrees in rows of 32 pixels; at the first and last row of a ramp half of it.
    found = scored("a", steep, steep, mask)
    missed = scored("b", level, half, mask)
    nothing = scored("c", level, level, mask)
    assert found.values["hazard_missed_15"] == [(0, 22 * 32)] * 2
    assert missed.values["hazard_missed_15"] == [(11 * 32, 11 * 32)] * 2
    assert nothing.values["hazard_missed_15"] == [(0, 0)] * 2
    together = figures_of([found, missed, nothing], LUNAR)
    assert together["hazard_missed_15"] == pytest.approx(11 / 33)
    assert together["hazard_missed_10"] == pytest.approx(13 / 37)
    assert figures_of([found], LUNAR)["hazard_missed_15"] == 0
    assert figures_of([missed], LUNAR)["hazard_missed_15"] == 1
    assert figures_of([nothing, nothing], LUNAR)["hazard_missed_15"] is None
    broken = scored("c", math.nan * level, level, mask)
    assert figures_of([found, missed, broken], LUNAR)["hazard_missed_15"] is None


def test_missed_hazards_of_two_models_differ_by_what_the_figures_do():
    mask = torch.ones(2, 24, 32, dtype=torch.bool)
    steep, level = ramp(0.4), ramp(0.0)
    truths = [steep, *[level] * 5]  # many draws hold no hazard at all
    sides = [
        [scored(str(i), one, truth, mask) for i, (one, truth) in enumerate(pairs)]
        for pairs in (
            [(truth, truth) for truth in truths],
            [(level, truth) for truth in truths],
        )
    ]
    found = paired_difference(sides[0], sides[1], METRICS["hazard_missed_15"], draws=50)
    assert found is not None
    assert (found.difference, found.low, found.high, found.drawn) == (1, 1, 1, "sequences")
    first, other = (figures_of(side, LUNAR)["hazard_missed_15"] for side in sides)
    assert (first, other) == (0, 1)


def test_the_rules_name_what_is_not_the_papers():
    text = LUNAR.all_rules()["not as in arXiv:2607.01851"]
    for word in ("least squares", "RANSAC", "within 0.1 m", "20,000", "SSIM", "VCRE", "profile"):
        assert word in text
