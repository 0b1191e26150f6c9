"""Charts show what they are given."""

import numpy as np
import pytest
from PIL import Image

from distill3r_core.io.charts import COLORS, SIZE, Line, save_line_chart


def _pixels_of(path, color):
    """Columns and rows of a color in the plot, without the legend below it."""
    with Image.open(path) as opened:
        picture = np.asarray(opened)[: SIZE[1]]
    rows, columns = np.nonzero((picture == color).all(-1))
    return columns, rows


def test_a_power_law_is_a_straight_line_on_logarithmic_axes(tmp_path):
    x = [12, 32, 64, 96, 128]
    line = Line("law", x, [v**1.5 for v in x])
    path = save_line_chart(
        tmp_path / "c.png", [line], title="t", x_label="x", y_label="y", x_scale="log",
        y_scale="log",
    )  # fmt: skip
    columns, rows = _pixels_of(path, COLORS[0])
    slope, offset = np.polyfit(columns, rows, 1)
    assert slope < 0
    assert np.abs(slope * columns + offset - rows).max() < 3


def test_a_value_that_cannot_be_drawn_is_a_gap(tmp_path):
    whole = Line("whole", [1, 2, 3, 4], [1, 2, 3, 4], markers=True)
    holed = Line("holed", [1, 2, 3, 4], [1, float("nan"), -3, 4], markers=True)
    drawn = {}
    for line in (whole, holed):
        path = save_line_chart(
            tmp_path / f"{line.label}.png", [line], title="t", x_label="x", y_label="y",
            y_scale="log",
        )  # fmt: skip
        drawn[line.label] = len(_pixels_of(path, COLORS[0])[0])
    assert drawn["holed"] < drawn["whole"] / 2


def test_the_legend_covers_nothing(tmp_path):
    corners = [(x, y) for x in (1, 9) for y in (1, 9)]

    def drawn(label):
        lines = [Line(f"{label} {x} {y}", [x, 5], [y, 5], markers=True) for x, y in corners]
        path = save_line_chart(
            tmp_path / "c.png", lines, title="t", x_label="x", y_label="y", x_ticks=[1, 9]
        )
        with Image.open(path) as picture:
            return np.asarray(picture)

    short, long = drawn("m"), drawn("a model of a rather long name, and what was published of it")
    assert (short[: SIZE[1]] == long[: SIZE[1]]).all()
    # ... and the names are there, each with its line.
    for picture in (short, long):
        below = picture[SIZE[1] :]
        assert all((below == COLORS[index]).all(-1).any() for index in range(len(corners)))


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_an_empty_chart_is_drawn(tmp_path, scale):
    path = save_line_chart(
        tmp_path / "c.png", [], title="t", x_label="x", y_label="y", y_scale=scale
    )
    with Image.open(path) as picture:
        assert picture.size == SIZE
