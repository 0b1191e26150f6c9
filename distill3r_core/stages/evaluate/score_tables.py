"""The result of an evaluation as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.metric_record import Metric
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import columns_of, metrics_of
from distill3r_core.report import Table

_FIGURE_WIDTH = 5  # characters: seven columns stand beside the names on a screen of 80


def tables(result: Mapping[str, Any]) -> tuple[Table, ...]:
    """The figures of models beside baselines and published figures.

    Returns:
        The columns of the protocol, then all metrics, data sets and sequences.
    """
    protocol = PROTOCOLS[result["protocol"]]
    metrics = metrics_of(protocol)
    chosen = columns_of(protocol)
    named: dict[str, Mapping[str, float | None] | None] = {}
    # Grids that differ stand beside the names: figures of different grids do not compare exactly.
    mixed = len(set(result["grids"].values())) > 1
    for label, figures in result["models"].items():
        name = f"{label} ({result['grids'][label]})" if mixed else label
        named[f"{name}{_share_refined(result, label)}"] = figures
        if label in result["without_refinement"]:
            named[f"{name}, not refined"] = result["without_refinement"][label]
    named |= {f"on {name}": one for name, one in result.get("caches", {}).items()}
    named |= {
        **{BASELINES[name].title: one for name, one in result["baselines"].items()},
        **{f"{name}, published": one for name, one in result["published"].items()},
    }
    grid = f"{result['grid']} (baselines)" if mixed else result["grid"]
    title = f"{result['protocol']} · {result['data']} · grid {grid} · {result['views']} views"
    found = [_table(title, named, chosen, result["units"])]
    differences = {label: one for label, one in result["differences"].items() if one}
    if differences:
        found.append(_difference_table(result, differences, chosen))
    if len(chosen) < len(metrics):
        rows = []
        for metric in metrics:
            cells = (_cells(one, [metric])[0] for one in named.values())
            rows.append((metric.heading, result["units"][metric.name], *cells))
        found.append(Table("all metrics", ("", "unit", *named), tuple(rows)))
    if len(result.get("data_sets", ())) > 1:
        found.append(_table("by data set", result["data_sets"], chosen, result["units"]))
    if len(result["sequences"]) > 1:
        sequences = {
            f"{one['name']} ({one['views']} views)": one["metrics"] for one in result["sequences"]
        }
        found.append(_table("by sequence", sequences, chosen, result["units"]))
    return tuple(found)


def _share_refined(result: Mapping[str, Any], label: str) -> str:
    """How many views have refined poses, to stand behind a name; "" where all have, or no model."""
    facts = (result["refinement"] or {}).get(label)
    if facts is None or facts["aligned"] == facts["views"]:
        return ""
    return f", {facts['aligned']}/{facts['views']} refined"


def _table(
    title: str,
    named: Mapping[str, Mapping[str, float | None] | None],
    metrics: Sequence[Metric],
    units: Mapping[str, str],
) -> Table:
    rows = tuple((name, *_cells(figures, metrics)) for name, figures in named.items())
    return Table(title, ("", *(_heading(one, units) for one in metrics)), rows)


def _heading(metric: Metric, units: Mapping[str, str]) -> str:
    return f"{metric.heading} ({units[metric.name]})" if metric.describe else metric.heading


def _difference_table(
    result: Mapping[str, Any],
    differences: Mapping[str, Mapping[str, Mapping[str, Any]]],
    metrics: Sequence[Metric],
) -> Table:
    """Differences from the first model, with their 95 percent intervals."""
    first = next(iter(result["models"]))
    rows = []
    for metric in metrics:
        if not any(metric.name in found for found in differences.values()):
            continue
        cells = [_heading(metric, result["units"])]
        for found in differences.values():
            one = found.get(metric.name)
            if one is None:
                cells.append("-")
                continue
            low, high = (format(one[end], f"+{metric.format}") for end in ("low", "high"))
            cells.append(f"{one['difference']:+{metric.format}} [{low}, {high}]")
        rows.append(tuple(cells))
    title = f"difference from {first}, with its 95 % interval (paired bootstrap)"
    return Table(title, ("", *differences), tuple(rows))


def _cells(
    figures: Mapping[str, float | None] | None, metrics: Sequence[Metric]
) -> tuple[str, ...]:
    cells = []
    for metric in metrics:
        value = None if figures is None else figures.get(metric.name)
        cells.append("-" if value is None else shown_figure(value, metric.format))
    return tuple(cells)


def shown_figure(value: float, form: str) -> str:
    """A figure as text, with fewer decimals where it would be wider than its column.

    Large figures are those of models that know nothing: 123.4 cm says as much as 123.45 cm.

    Args:
        form: Format of a figure below 10, as ".2f".
    """
    text, usual = format(value, form), max(_FIGURE_WIDTH, len(format(0.0, form)))
    decimals = len(text.partition(".")[2]) if form.endswith("f") else 0
    while len(text) > usual and decimals:
        decimals -= 1
        text = f"{value:.{decimals}f}"
    return text
