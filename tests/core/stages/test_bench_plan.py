"""Which views are measured, and what fits into a budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill3r_core.errors import ConfigError
from distill3r_core.stages.benchmark.budget import (
    RunSeconds,
    affordable,
    nearest_multiple,
    parse_views,
    planned_runs,
)


@pytest.mark.parametrize(
    ("text", "views"),
    [
        ("12..128", (12, 32, 64, 96, 128)),
        ("30..100", (32, 64, 96)),
        ("8..32..8", (8, 16, 24, 32)),
        ("8..31..8", (8, 16, 24)),
        ("8,2,32", (2, 8, 32)),
        ("12..40, 2, 12", (2, 12, 32)),
        ("1", (1,)),
    ],
)
def test_views_are_read(text, views):
    assert parse_views(text) == views


@pytest.mark.parametrize(
    "text",
    ["", "0", "2..8", "5..1..1", "0..4..2", "8..16..0", "a", "2,,3", "1..2..3..4", "-3", "2.5"],
)
def test_views_that_name_nothing_are_refused_with_the_way_out(text):
    with pytest.raises(ConfigError) as caught:
        parse_views(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("size", "patch", "found"),
    [
        ((378, 518), 16, (384, 512)),
        ((224, 518), 16, (224, 512)),
        ((70, 98), 14, (70, 98)),
        ((3, 5), 16, (16, 16)),
    ],
)
def test_a_teachers_size_is_the_nearest_its_patches_allow(size, patch, found):
    assert nearest_multiple(size, patch) == found


def test_rows_are_taken_in_order_while_they_fit():
    costs = [RunSeconds(1.0, 2.0), RunSeconds(1.0, 100.0), RunSeconds(1.0, 4.0)]
    assert affordable(costs, 14.0) == [True, False, True]
    assert affordable(costs, 13.9) == [True, False, False]
    assert affordable(costs, 0.0) == [False, False, False]


@given(
    spare=st.floats(0, 1e4),
    seconds=st.floats(1e-3, 1e3),
    warmups=st.integers(1, 5),
    runs=st.integers(1, 20),
)
def test_runs_never_take_more_than_there_is_to_spare(spare, seconds, warmups, runs):
    planned = planned_runs(spare, seconds, warmups=warmups, runs=runs)
    assert 1 <= planned[0] <= warmups
    assert 1 <= planned[1] <= runs
    assert (sum(planned) - 2) * seconds <= spare * (1 + 1e-9)


def test_without_an_end_all_wanted_runs_are_made():
    assert planned_runs(float("inf"), 3.0, warmups=3, runs=10) == (3, 10)
