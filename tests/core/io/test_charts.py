"""Charts show what they are given."""

import numpy as np
import pytest
from PIL import Image

from distill3r_core.io.charts import COLORS, SIZE, Line, save_line_chart


def _pixels_of(path, color):
    """Columns and rows of a colour, the legend's corner and the frame left out."""
    with Image.open(path) as opened:
        picture = np.asarray(opened)
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
    inside = rows > 110  # below the legend
    slope, offset = np.polyfit(columns[inside], rows[inside], 1)
    assert slope < 0
    assert np.abs(slope * columns[inside] + offset - rows[inside]).max() < 3


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


def test_the_legend_avoids_the_lines(tmp_path):
    for y in ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]):
        path = save_line_chart(
            tmp_path / "c.png", [Line("m", [1, 2, 3], y, markers=True)], title="t", x_label="x",
            y_label="y",
        )  # fmt: skip
        columns, rows = _pixels_of(path, COLORS[0])
        highest = columns[rows.argmin()]
        assert (highest < SIZE[0] / 2) == (y[0] > y[-1])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_an_empty_chart_is_drawn(tmp_path, scale):
    path = save_line_chart(
        tmp_path / "c.png", [], title="t", x_label="x", y_label="y", y_scale=scale
    )
    with Image.open(path) as picture:
        assert picture.size == SIZE
