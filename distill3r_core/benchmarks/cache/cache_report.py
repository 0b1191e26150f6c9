"""The outcome of `bench cache`: table, JSON and a chart."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from distill3r_core.files import replacing
from distill3r_core.io.charts import COLORS, INK, PAPER
from distill3r_core.report import Report, Table
from distill3r_core.stages.benchmark.forward_report import CHART
from distill3r_core.stages.benchmark.result_folder import Place

# The bar of every ratio, and whether it is a most or a least.
BARS: dict[str, tuple[str, float]] = {
    "bytes_clean": ("≤", 0.23),
    "bytes_noisy": ("≤", 0.32),
    "bytes_independent": ("≤", 0.45),
    "bytes_depth": ("≤", 0.15),
    "bytes_all": ("≤", 0.28),
    "write_cpu": ("≤", 1 / 6),
    "commit_over_fdatasync": ("≤", 1.4),
    "decode_cpu": ("≥", 4.5),
    "decode_cpu_device_global": ("≥", 9.0),
    "image_decode_cpu": ("≥", 35.0),
    "loader_full": ("≥", 8.0),
    "loader_subset": ("≥", 10.0),
    "loader_ram": ("≤", 0.25),
}
_SAYS = {
    "bytes_clean": "bytes of targets, no noise",
    "bytes_noisy": "bytes of targets, 0.2 % noise",
    "bytes_independent": "bytes of targets, independent global map",
    "bytes_depth": "bytes of targets, depth times ray",
    "bytes_all": "bytes with pictures",
    "write_cpu": "CPU time to store a sample, durably",
    "commit_over_fdatasync": "commit against a synced plain file",
    "decode_cpu": "CPU time to read a view, all maps",
    "decode_cpu_device_global": "CPU time to read a view, global map on the device",
    "image_decode_cpu": "CPU time to read a picture",
    "loader_full": "samples per second, all views",
    "loader_subset": "samples per second, a subset of the views",
    "loader_ram": "memory of the loader",
}
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 960, 34, 400, 100, 56
_SPAN = 64.0  # the chart's longest bar, in times


def meets(name: str, ratio: float) -> bool:
    """Whether a ratio reaches its bar."""
    sign, bar = BARS[name]
    return ratio <= bar if sign == "≤" else ratio >= bar


def publish(
    place: Place,
    *,
    settings: Mapping[str, Any],
    ratios: Mapping[str, float],
    medians: Mapping[str, float],
) -> Report:
    """Draw the result, write it and say it."""
    result = {"ratios": dict(ratios), "medians": dict(medians)}
    draw_gains(place.folder / CHART, ratios)
    place.keep(result, CHART)
    return report_of(place, settings, result)


def report_of(place: Place, settings: Mapping[str, Any], result: Mapping[str, Any]) -> Report:
    """What a person reads of a result."""
    rows = tuple(
        (
            _SAYS[name],
            f"{ratio:.3g}",
            f"{BARS[name][0]} {BARS[name][1]:.3g}",
            "reached" if meets(name, ratio) else "missed",
        )
        for name, ratio in result["ratios"].items()
    )
    return place.report(
        settings,
        result,
        tables=[Table("cache against the original's format", ("", "ratio", "bar", ""), rows)],
        notes=[
            "bytes, write, commit and memory: ours ÷ theirs; decode and loaders: theirs ÷ ours",
            "targets are made from RGB-D frames with noise, not a network's output",
        ],
        files=[CHART],
    )


def draw_gains(path: Path, ratios: Mapping[str, float]) -> Path:
    """A bar per ratio: how many times better, on a logarithmic scale, with the bar to reach."""
    # The original has no counterpart of a commit.
    shown = {name: ratio for name, ratio in ratios.items() if name != "commit_over_fdatasync"}
    height = _TOP + _ROW * len(shown) + 20
    picture = Image.new("RGB", (_WIDTH, height), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text(
        (_WIDTH / 2, 10),
        "Times better than the original's format",
        INK,
        ImageFont.load_default(18),
        anchor="mt",
    )
    unit = (_WIDTH - _LEFT - _RIGHT) / math.log(_SPAN)
    for index, (name, ratio) in enumerate(shown.items()):
        small_is_good, bar = BARS[name][0] == "≤", BARS[name][1]
        gain, least = (1 / ratio, 1 / bar) if small_is_good else (ratio, bar)
        top = _TOP + index * _ROW
        length = max(0.0, min(math.log(gain), math.log(_SPAN))) * unit
        mark = _LEFT + math.log(max(least, 1.0)) * unit
        pen.text(
            (_LEFT - 10, top + _ROW / 2), _SAYS[name], INK, ImageFont.load_default(15), anchor="rm"
        )
        pen.rectangle([_LEFT, top + 6, _LEFT + length, top + _ROW - 6], fill=COLORS[0])
        pen.line([(mark, top + 2), (mark, top + _ROW - 2)], fill=COLORS[1], width=3)
        label = f"{gain:.3g} x"
        pen.text(
            (_LEFT + length + 8, top + _ROW / 2),
            label,
            INK,
            ImageFont.load_default(15),
            anchor="lm",
        )
    with replacing(path) as beside:
        picture.save(beside)
    return path
