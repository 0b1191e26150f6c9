"""What an evaluation found: tables for people, the same numbers for scripts."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill3r_core.report import Table

FIGURES = (
    ("acc", "Acc", ".2f"),
    ("comp", "Comp", ".2f"),
    ("scale", "scale", ".3f"),
    ("scale_mean", "scale, mean", ".3f"),
    ("scale_log_spread", "spread of log", ".3f"),
    ("scale_log_spread_views", "spread over views", ".3f"),
    ("scale_log_error", "|log scale|", ".3f"),
    ("scale_norm", "norm ratio", ".3f"),
)
_LENGTHS = ("acc", "comp")
_FLOOR_NAMES = {
    "constant_depth": "floor: constant depth",
    "mean_depth": "floor: mean depth map of the training frames",
    "nearest_frame": "floor: map of the nearest training frame",
}


def tables(result: Mapping[str, Any], *, label: str) -> tuple[Table, ...]:
    """The figures beside their floors and what others published.

    Args:
        result: Of the evaluation, as plain data.
        label: What was scored.
    """
    units = result["units"]
    names = (f"{name} ({units[key]})" if key in _LENGTHS else name for key, name, _ in FIGURES)
    columns = ("", *names)
    rows = [_row(label, result["metrics"])]
    rows += [_row(_FLOOR_NAMES[name], figures) for name, figures in result["floors"].items()]
    rows += [_row(f"published: {name}", figures) for name, figures in result["published"].items()]
    title = (
        f"{result['protocol']} · {result['data']} · grid {result['grid']} · {result['views']} views"
        f" · scale in {units['scale']}"
    )
    found = [Table(title, columns, tuple(rows))]
    if len(result["sequences"]) > 1:
        found.append(_sequence_table(result["sequences"], columns))
    return tuple(found)


def _sequence_table(sequences: Sequence[Mapping[str, Any]], columns: tuple[str, ...]) -> Table:
    rows = [
        (str(one["name"]), str(one["views"]), *_row("", one["metrics"])[1:]) for one in sequences
    ]
    return Table("by sequence", ("", "views", *columns[1:]), tuple(rows))


def _row(name: str, figures: Mapping[str, float] | None) -> tuple[str, ...]:
    if figures is None:
        return (name, *("-" for _ in FIGURES))
    return (
        name,
        *(format(figures[key], spec) if key in figures else "-" for key, _, spec in FIGURES),
    )
