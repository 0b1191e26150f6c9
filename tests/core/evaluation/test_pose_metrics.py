"""Metrics of poses through a protocol: the truth, a similarity of it, and what is missing."""

from dataclasses import replace

import pytest
import torch

from distill3r_core.evaluation.metrics import METRICS
from distill3r_core.evaluation.pose_metrics import THRESHOLDS
from distill3r_core.evaluation.predictions import maps_of, predict_truth
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import figures_of, score_sequence
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.similarity import compose

SHARES = (
    *(f"{name}_{angle}" for name in ("rra", "rta") for angle in THRESHOLDS),
    *(f"auc_{angle}" for angle in THRESHOLDS),
)
ERRORS = ("rotation_median", "translation_median", "ate", "rpe_t", "rpe_r")
PROTOCOL = replace(
    PROTOCOLS["table2"],
    name="poses",
    columns=(),
    metrics=("acc", *SHARES, *ERRORS, "fused", "fused_true_poses"),
)


def _truth(views: int, *, collinear: bool = False) -> Truth:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(views, 6, 7, 3, generator=generator) + torch.tensor([0.0, 0.0, 1.0])
    turns = torch.randn(views, 3, 3, generator=generator, dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    poses[:, :3, :3] = torch.matrix_exp(0.3 * (turns - turns.mT))
    poses[:, :3, 3] = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    if collinear:
        poses[:, 1:3, 3] = 0
    return Truth(
        name="s",
        world="s",
        view_names=tuple(f"view {index}" for index in range(views)),
        views=(),
        points=points,
        mask=torch.ones(views, 6, 7, dtype=torch.bool),
        intrinsics=torch.eye(3).expand(views, 3, 3),
        poses=poses,
        unit="m",
        contents=(),
    )


def _figures(truth, maps):
    return figures_of([score_sequence(truth, maps, PROTOCOL)], PROTOCOL)


@pytest.mark.parametrize("views", [2, 5])
@pytest.mark.parametrize("collinear", [False, True])
def test_the_truth_has_all_shares_and_no_error(views, collinear):
    truth = _truth(views, collinear=collinear)
    figures = _figures(truth, predict_truth(truth))
    assert [figures[name] for name in SHARES] == [1.0] * len(SHARES)
    assert max(figures[name] for name in ERRORS) < 1e-4


def test_a_similarity_of_the_prediction_changes_no_figure():
    truth = _truth(5)
    noisy = truth.poses.clone()
    noisy[1:, :3, :3] = noisy[1:, :3, :3] @ truth.poses[:-1, :3, :3]
    noisy[:, :3, 3] = noisy[:, :3, 3].flip(0)
    maps = maps_of(truth.points, truth, poses=noisy)
    similarities = maps.global_from_local
    once = _figures(truth, maps)
    assert once["auc_30"] < 1 and once["ate"] > 1
    turn = torch.tensor([[0.0, 0.3, -1.2], [-0.3, 0.0, 0.7], [1.2, -0.7, 0.0]]).double()
    for scale in (3.0, 0.5):
        linear = scale * torch.matrix_exp(turn)
        other = torch.cat([linear, torch.tensor([[4.0], [-2.0], [0.5]]).double()], dim=1)
        moved = compose(other.expand_as(similarities), similarities)
        again = _figures(truth, replace(maps, global_from_local=moved))
        assert again == pytest.approx(once, rel=1e-6)


def test_a_single_view_and_a_prediction_without_poses_have_no_figures():
    single, several = _truth(1), _truth(3)
    for figures in (
        _figures(single, predict_truth(single)),
        _figures(several, maps_of(several.points, several)),
    ):
        assert all(figures[name] is None for name in (*SHARES, *ERRORS))
        assert figures["acc"] == pytest.approx(0, abs=1e-4)


def test_a_pose_that_is_not_finite_fails_its_pairs():
    truth = _truth(4)
    maps = predict_truth(truth)
    broken = maps.global_from_local.clone()
    broken[3] = torch.nan
    figures = _figures(truth, replace(maps, global_from_local=broken))
    assert figures["rra_5"] == figures["auc_30"] == 0.5  # 3 of 6 pairs
    # Not finite, so no figure: half of the pairs failed, and the trajectory is not whole.
    assert figures["rotation_median"] is figures["ate"] is figures["fused"] is None
    assert figures["fused_true_poses"] == pytest.approx(0, abs=1e-4)


def test_table2_has_every_metric_of_poses():
    assert {*SHARES, *ERRORS} <= set(PROTOCOLS["table2"].metrics) <= set(METRICS)
