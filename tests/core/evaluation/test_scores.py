"""Aggregation and protocols, by hand and by law."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill3r_core.errors import ConfigError, FailedError
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import SequenceScore, mean_metrics, score_sequence, units
from distill3r_core.geometry.metrics import ViewErrors

TABLE2 = PROTOCOLS["table2"]


def _view(accuracy, completeness=0.1, scale=1.0, ratio=1.0):
    return ViewErrors(accuracy, completeness, scale, ratio, 100)


def _sequence(views: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(views, 6, 7, 3, generator=generator) + torch.tensor([0.0, 0.0, 1.0])
    noisy = truth + 0.05 * torch.randn(truth.shape, generator=generator)
    mask = torch.rand(views, 6, 7, generator=generator) > 0.2
    return noisy, truth, mask


def _names(count):
    return [f"view {index}" for index in range(count)]


def test_views_are_averaged_before_sequences():
    long = SequenceScore("a", (_view(0.1), _view(0.3)))
    short = SequenceScore("b", (_view(0.4),))
    found = mean_metrics([long, short])
    assert found["acc"] == pytest.approx(100 * (0.2 + 0.4) / 2)  # not (0.1 + 0.3 + 0.4) / 3
    assert found["comp"] == pytest.approx(10)


def test_the_scale_block_is_that_of_a_case_worked_by_hand():
    first = SequenceScore("a", (_view(0.1, scale=1.0), _view(0.1, scale=4.0)))
    second = SequenceScore("b", (_view(0.1, scale=8.0, ratio=2.0),))
    found = mean_metrics([first, second])
    assert found["scale"] == pytest.approx(4)  # sqrt(2 * 8)
    assert found["scale_mean"] == pytest.approx((2.5 + 8) / 2)
    assert found["scale_log_spread"] == pytest.approx(math.log(2))
    assert found["scale_log_spread_views"] == pytest.approx(math.log(2) / 2)
    assert found["scale_log_error"] == pytest.approx((math.log(2) + math.log(8)) / 2)
    assert found["scale_norm"] == pytest.approx(math.sqrt(2))


def test_half_the_truth_scores_zero_and_scale_two():
    _, truth, mask = _sequence()
    found = mean_metrics([score_sequence("s", truth / 2, truth, mask, view_names=_names(3))])
    assert found["acc"] == pytest.approx(0, abs=1e-4)
    assert found["comp"] == pytest.approx(0, abs=1e-4)
    assert found["scale"] == pytest.approx(2, abs=1e-6)
    assert found["scale_mean"] == pytest.approx(2, abs=1e-6)
    assert found["scale_log_spread"] == pytest.approx(0, abs=1e-6)


@given(order=st.permutations(range(4)))
def test_the_order_of_the_views_changes_no_figure(order):
    noisy, truth, mask = _sequence(4)
    plain = score_sequence("s", noisy, truth, mask, view_names=_names(4))
    turned = score_sequence("s", noisy[order], truth[order], mask[order], view_names=_names(4))
    assert mean_metrics([turned]) == pytest.approx(mean_metrics([plain]), rel=1e-12)


def test_every_figure_has_a_unit():
    figures = mean_metrics([SequenceScore("a", (_view(0.1),))])
    assert units("m").keys() == units("none").keys() == figures.keys()
    assert units("m")["acc"] == "cm"


def test_a_prediction_that_is_not_finite_is_named():
    noisy, truth, mask = _sequence()
    mask[1, 0, 0] = True
    noisy[1, 0, 0] = math.nan
    with pytest.raises(FailedError, match=r"scene/one, view 1: "):
        score_sequence("scene/one", noisy, truth, mask, view_names=_names(3))


def test_frames_of_7_scenes_are_chosen_by_their_own_number():
    every_fifth = [5 * index for index in range(20)]
    assert [every_fifth[i] for i in TABLE2.frames("7scenes", every_fifth)] == [0, 20, 40, 60, 80]
    thinned = [0, 20, 35, 60, 61]
    assert TABLE2.frames("7scenes", thinned) == [0, 1, 3]


@pytest.mark.parametrize(("count", "step"), [(1, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_other_layouts_keep_at_most_fifty_frames(count, step):
    chosen = TABLE2.frames("rgbd", list(range(count)))
    assert chosen == list(range(0, count, step))
    assert len(chosen) <= 50


def test_an_unknown_protocol_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'table2'"):
        PROTOCOLS["tabel2"]
