"""Preview pictures."""

import numpy as np
import pytest

from distill3r_core.io.previews import colorize, compose, limits

RAMP = np.linspace(0, 1, 60, dtype=np.float64).reshape(1, 60)


@pytest.mark.parametrize(("table", "sign"), [("depth", -1), ("confidence", 1)])
def test_lightness_follows_the_values(table, sign):
    picture = colorize(RAMP, table=table, span=(0.0, 1.0)).astype(float)
    light = picture @ [0.299, 0.587, 0.114]
    assert (sign * np.diff(light[0]) >= -0.5).all() and abs(light[0, -1] - light[0, 0]) > 100


def test_invalid_pixels_are_gray_whatever_they_hold():
    values = np.array([[1.0, np.nan, np.inf, 2.0]])
    mask = np.array([[True, True, True, False]])
    picture = colorize(values, table="depth", mask=mask)
    assert len(np.unique(picture[0, 1:], axis=0)) == 1 and picture[0, 1].std() == 0
    assert not (picture[0, 0] == picture[0, 1]).all()


def test_one_span_makes_maps_comparable():
    low, high = (
        colorize(RAMP, table="depth", span=(0.0, 2.0)),
        colorize(RAMP + 1, table="depth", span=(0.0, 2.0)),
    )
    np.testing.assert_array_equal(low[0, -1], high[0, 0])


def test_limits_ignore_wild_and_invalid_values():
    values = np.concatenate([np.linspace(1, 2, 1000), [1e9, np.nan, np.inf]])
    low, high = limits(values)
    assert 1 <= low < 1.1 and 1.9 < high <= 2
    assert limits(np.full(3, np.nan)) == (0.0, 1.0)


def test_panels_stand_in_their_columns_unmirrored():
    red = np.zeros((20, 40, 3), np.uint8)
    red[:, :20, 0] = 255
    green = np.zeros((40, 20, 3), np.uint8)
    green[:20, :, 1] = 255
    picture = compose(
        [[red, green], [red, green]], headings=("a", "b"), captions=("x", "y"), height=60
    )
    reds = (picture == [255, 0, 0]).all(-1)
    greens = (picture == [0, 255, 0]).all(-1)
    assert reds.sum() == 2 * 60 * 60 and greens.sum() == 2 * 30 * 30
    rows, columns = np.nonzero(reds)
    assert columns.max() < np.nonzero(greens)[1].min()
    half = columns.max() - columns.min() + 1
    assert (picture[rows[0], columns.max() + 1 : columns.max() + half] == 0).all()


def test_a_strip_is_shown_no_wider_than_a_panel_may_be():
    strip = np.zeros((14, 40_000, 3), np.uint8)
    assert compose([[strip]], headings=["photo"]).shape[1] < 1_000
    assert compose([[strip.swapaxes(0, 1)]], headings=["photo"]).shape[1] > 20


def test_squashed_panels_are_shown_at_their_true_aspect():
    squashed = np.full((20, 80, 3), 7, np.uint8)
    picture = compose([[squashed]], headings=("a",), aspects=[4 / 3], height=60)
    assert (picture == 7).all(-1).sum() == 60 * 80
