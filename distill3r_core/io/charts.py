"""Line charts as images, drawn with Pillow: axes, logarithmic scales, a legend below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from distill3r_core.files import replacing

Scale = Literal["linear", "log"]
Number = float | int

SIZE = (960, 640)  # columns, rows, the legend below not counted
MARGIN = (92, 48, 28, 64)  # left, top, right, bottom, in pixels
INK, GRID, PAPER = (40, 40, 40), (224, 224, 224), (255, 255, 255)
# Okabe and Ito's colors, which stay apart for the color-blind.
COLORS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)
TICKS = 6  # about as many on a linear axis
LEGEND_ROW, LEGEND_FONT = 22, 14  # pixels
LEGEND_MARK, LEGEND_GAP = 42, 24  # pixels before a name, and after it
DOT = 4  # pixels of its radius
DASH = 8  # pixels of a dash, and of the gap after it


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        y: Their values. Those that are not finite, or not positive on a logarithmic axis, are
            gaps in the line.
        color: Its place in `COLORS`; None: its own place among the lines. Lines that belong
            together share one.
    """

    label: str
    x: Sequence[Number]
    y: Sequence[Number]
    dashed: bool = False  # for what was not measured: baselines, references
    markers: bool = False
    color: int | None = None


@dataclass(frozen=True)
class _Axis:
    low: Number
    high: Number
    start: int  # pixel of `low`
    stop: int  # pixel of `high`
    scale: Scale

    def place(self, value: Number) -> float:
        """The pixel of a value."""
        low, high = _warp(self.low, self.scale), _warp(self.high, self.scale)
        share = (_warp(value, self.scale) - low) / (high - low)
        return self.start + share * (self.stop - self.start)


def save_line_chart(
    path: Path,
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
    x_ticks: Sequence[Number] | None = None,
) -> Path:
    """Draw lines over two axes and save the image.

    Args:
        path: Image file; its suffix names the format.
        lines: What to draw; a chart without a single drawable point has empty axes.
        title: Above the chart.
        x_label: Below it.
        y_label: Above the vertical axis.
        x_ticks: The values that are marked on the horizontal axis; None: round ones.
    """
    left, top, right, bottom = MARGIN
    columns, rows = SIZE
    legend = LEGEND_ROW * _legend_grid(lines, columns - left)[0]
    chart = Image.new("RGB", (columns, rows + legend), PAPER)
    pen = ImageDraw.Draw(chart)
    shown = [_drawable(line, x_scale, y_scale) for line in lines]
    points = [point for line in shown for point in line if point is not None]
    x_axis = _axis([x for x, _ in points], left, columns - right, x_scale)
    y_axis = _axis([y for _, y in points], rows - bottom, top, y_scale)
    _draw_axes(pen, x_axis, y_axis, x_ticks)
    for index, (line, line_points) in enumerate(zip(lines, shown, strict=True)):
        _draw_line(pen, line, line_points, x_axis, y_axis, _color(line, index))
    _draw_legend(pen, lines)
    pen.text((columns / 2, 8), title, INK, _font(18), anchor="mt")
    pen.text(((x_axis.start + x_axis.stop) / 2, rows - 10), x_label, INK, _font(15), anchor="mb")
    pen.text((8, top - 8), y_label, INK, _font(15), anchor="lb")
    with replacing(path) as beside:
        chart.save(beside)
    return path


def _drawable(line: Line, x_scale: Scale, y_scale: Scale) -> list[tuple[Number, Number] | None]:
    """The line's points; None where there is a gap."""

    def fits(value: Number, scale: Scale) -> bool:
        return math.isfinite(value) and (scale == "linear" or value > 0)

    return [
        (x, y) if fits(x, x_scale) and fits(y, y_scale) else None
        for x, y in zip(line.x, line.y, strict=True)
    ]


def _axis(values: Sequence[Number], start: int, stop: int, scale: Scale) -> _Axis:
    """An axis that holds the values with a little room on both sides."""
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    if scale == "log":
        room = max((math.log(high) - math.log(low)) * 0.06, 0.1)
        return _Axis(low * math.exp(-room), high * math.exp(room), start, stop, scale)
    room = (high - low) * 0.04 or max(abs(high), 1.0) * 0.04
    return _Axis(low - room, high + room, start, stop, scale)


def _draw_axes(
    pen: ImageDraw.ImageDraw, x_axis: _Axis, y_axis: _Axis, x_ticks: Sequence[Number] | None
) -> None:
    for value in _ticks(x_axis) if x_ticks is None else x_ticks:
        column = x_axis.place(value)
        pen.line([(column, y_axis.start), (column, y_axis.stop)], GRID)
        pen.text((column, y_axis.start + 6), _number(value), INK, _font(13), anchor="mt")
    for value in _ticks(y_axis):
        row = y_axis.place(value)
        pen.line([(x_axis.start, row), (x_axis.stop, row)], GRID)
        pen.text((x_axis.start - 8, row), _number(value), INK, _font(13), anchor="rm")
    pen.rectangle([x_axis.start, y_axis.stop, x_axis.stop, y_axis.start], outline=INK)


def _draw_line(
    pen: ImageDraw.ImageDraw,
    line: Line,
    points: Sequence[tuple[Number, Number] | None],
    x_axis: _Axis,
    y_axis: _Axis,
    color: tuple[int, int, int],
) -> None:
    placed = [
        None if point is None else (x_axis.place(point[0]), y_axis.place(point[1]))
        for point in points
    ]
    for start, stop in pairwise(placed):
        if start is not None and stop is not None:
            _draw_segment(pen, start, stop, color, dashed=line.dashed)
    for point in placed:
        if point is not None and line.markers:
            _draw_dot(pen, point, color)


def _draw_segment(
    pen: ImageDraw.ImageDraw,
    start: tuple[Number, Number],
    stop: tuple[Number, Number],
    color: tuple[int, int, int],
    *,
    dashed: bool,
) -> None:
    if not dashed:
        pen.line([start, stop], color, width=2)
        return
    length = math.dist(start, stop)
    for at in range(0, math.ceil(length), 2 * DASH):
        ends = [
            tuple(a + (b - a) * share for a, b in zip(start, stop, strict=True))
            for share in (at / length, min((at + DASH) / length, 1.0))
        ]
        pen.line(ends, color, width=2)


def _draw_dot(
    pen: ImageDraw.ImageDraw, middle: tuple[Number, Number], color: tuple[int, int, int]
) -> None:
    column, row = middle
    pen.ellipse([column - DOT, row - DOT, column + DOT, row + DOT], fill=color)


def _legend_grid(lines: Sequence[Line], width: int) -> tuple[int, float]:
    """Rows of a legend, and the pixels from one column to the next."""
    longest = max((_font(LEGEND_FONT).getlength(line.label) for line in lines), default=0.0)
    step = longest + LEGEND_MARK + LEGEND_GAP
    return math.ceil(len(lines) / max(1, int(width // step))), step


def _draw_legend(pen: ImageDraw.ImageDraw, lines: Sequence[Line]) -> None:
    """Names below the plot, where they cover nothing of it."""
    left, top = MARGIN[0], SIZE[1]
    rows, step = _legend_grid(lines, SIZE[0] - left)
    for index, line in enumerate(lines):
        column, row = divmod(index, rows)
        x, y = left + column * step, top + LEGEND_ROW * (row + 0.5)
        color = _color(line, index)
        _draw_segment(pen, (x, y), (x + 32, y), color, dashed=line.dashed)
        if line.markers:
            _draw_dot(pen, (x + 16, y), color)
        pen.text((x + LEGEND_MARK, y), line.label, INK, _font(LEGEND_FONT), anchor="lm")


def _color(line: Line, index: int) -> tuple[int, int, int]:
    return COLORS[(index if line.color is None else line.color) % len(COLORS)]


def _ticks(axis: _Axis) -> list[Number]:
    """Round values on an axis."""
    if axis.scale == "linear":
        raw = (axis.high - axis.low) / TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
        first = math.ceil(axis.low / step)
        return [i * step for i in range(first, math.floor(axis.high / step) + 1)]
    decades = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    # 1-2-5 steps where there are few decades, else the decades alone.
    multiples = (1, 2, 5) if math.log10(axis.high / axis.low) < 4 else (1,)
    ticks = [m * 10.0**decade for decade in decades for m in multiples]
    return [tick for tick in ticks if axis.low <= tick <= axis.high]


def _warp(value: Number, scale: Scale) -> float:
    return math.log(value) if scale == "log" else float(value)


def _number(value: Number) -> str:
    return f"{value:.6g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.0e}"


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
