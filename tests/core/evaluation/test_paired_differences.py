"""Paired differences: by law, and where they must stay silent."""

import math

import numpy as np
import pytest

from distill3r_core.evaluation.metrics import METRICS
from distill3r_core.evaluation.paired_differences import paired_difference
from distill3r_core.evaluation.scores import SequenceScore

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


def test_what_cannot_be_paired_has_no_difference():
    rows = np.full((6, 4), 0.5)
    broken = _scores(rows)
    broken[2].values["acc"][0] = math.nan
    lacking = [SequenceScore("0", 4, {"acc": None}), *_scores(rows)[1:]]
    for other in (_scores(rows[:5]), _scores(np.full((6, 3), 0.5)), broken, lacking):
        assert paired_difference(_scores(rows), other, ACC) is None
    assert paired_difference(_scores(rows[:2]), _scores(rows[:2]), ACC) is None  # too few
