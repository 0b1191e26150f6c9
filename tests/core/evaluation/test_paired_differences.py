"""Paired differences: by law, and where they must stay silent."""

import math
from dataclasses import replace

import numpy as np
import pytest

from distill3r_core.evaluation.metrics import METRICS
from distill3r_core.evaluation.paired_differences import paired_difference
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import SequenceScore, figures_of

ACC = METRICS["acc"]


def _scores(rows):
    return [SequenceScore(str(i), len(row), {"acc": list(row)}) for i, row in enumerate(rows)]


@pytest.mark.parametrize(("shape", "drawn"), [((8, 3), "sequences"), ((2, 30), "views")])
def test_a_shift_of_everything_is_certain_and_noise_is_not(shape, drawn):
    random = np.random.default_rng(0)
    rows = random.uniform(0.1, 0.9, size=shape)
    shifted = paired_difference(_scores(rows), _scores(rows + 0.01), ACC)
    assert shifted is not None and shifted.drawn == drawn
    # The same in every draw: pairing takes the spread of the values themselves away.
    assert shifted.difference == pytest.approx(1.0)  # cm
    assert shifted.low == pytest.approx(1.0) and shifted.high == pytest.approx(1.0)
    assert shifted.certain
    noisy = paired_difference(_scores(rows), _scores(rows[::-1]), ACC)
    assert noisy is not None and noisy.low <= noisy.difference <= noisy.high
    if drawn == "sequences":  # a permutation of sequences changes no mean
        assert noisy.difference == pytest.approx(0, abs=1e-9) and not noisy.certain


def test_pairs_of_views_are_drawn_by_their_views():
    """Of two views that are wrong all pairs are wrong: the interval is as wide as of views."""
    metric, views = METRICS["rra_5"], 12
    first, second = np.triu_indices(views, 1)
    wrong = np.where((first < 2) | (second < 2), 90.0, 0.0)

    def scores(values):
        return [SequenceScore(name, views, {metric.name: values.tolist()}) for name in "ab"]

    right = np.zeros(len(first))
    found = paired_difference(scores(right), scores(wrong), metric)
    assert found is not None and found.drawn == "views"
    assert found.difference == pytest.approx(-np.count_nonzero(wrong) / len(wrong))
    # Of 24 views 4 are wrong, in draws from none to about 8; pairs by themselves would spread less.
    assert found.low < found.difference - 0.2 and found.high > found.difference + 0.2
    few = [SequenceScore("a", 5, {metric.name: [float(angle) for angle in range(10)]})]
    assert paired_difference(few, few, metric) is not None  # some draws are of one view alone
    same = paired_difference(scores(wrong), scores(wrong), metric)
    assert same is not None and same.low == same.high == 0
    odd = [replace(one, values={metric.name: [0.0] * 13}) for one in scores(right)]
    assert paired_difference(odd, odd, metric) is None


def test_what_cannot_be_paired_has_no_difference():
    rows = np.full((6, 4), 0.5)
    broken = _scores(rows)
    broken[2].values["acc"][0] = math.nan
    lacking = [SequenceScore("0", 4, {"acc": None}), *_scores(rows)[1:]]
    for other in (_scores(rows[:5]), _scores(np.full((6, 3), 0.5)), broken, lacking):
        assert paired_difference(_scores(rows), other, ACC) is None
    assert paired_difference(_scores(rows[:2]), _scores(rows[:2]), ACC) is None  # too few


def test_other_views_of_the_same_sequences_cannot_be_paired_as_many_as_there_are():
    rows = np.random.default_rng(0).uniform(0.1, 0.9, size=(6, 4))
    first = [replace(one, frames=tuple("abcd")) for one in _scores(rows)]
    other = [replace(one, frames=tuple("abce")) for one in _scores(rows)]
    assert paired_difference(first, first, ACC) is not None
    assert paired_difference(first, other, ACC) is None


@pytest.mark.parametrize("shape", [(6, 5), (3, 8)], ids=["sequences are drawn", "views are drawn"])
@pytest.mark.parametrize("aggregation", ["sequences", "pooled", "categories"])
def test_a_difference_is_that_of_the_figures_that_are_shown(shape, aggregation):
    """The median of pooled views is not the mean of the medians of sequences."""
    metric = METRICS["location_median"]
    protocol = replace(PROTOCOLS["localization"], metrics=(metric.name,), aggregation=aggregation)
    random = np.random.default_rng(1)
    sides = []
    for _ in range(2):
        rows = [random.uniform(size=shape[1] + index) ** 3 for index in range(shape[0])]
        sides.append(
            [
                SequenceScore(f"{'ab'[index > 1]}/{index}", len(row), {metric.name: row.tolist()})
                for index, row in enumerate(rows)
            ]
        )
    shown = [figures_of(side, protocol)[metric.name] for side in sides]
    found = paired_difference(*sides, metric, aggregation=aggregation, draws=200)
    assert found is not None and found.drawn == ("sequences" if shape[0] > 5 else "views")
    assert found.difference == pytest.approx(shown[1] - shown[0])
    assert found.low < found.difference < found.high
