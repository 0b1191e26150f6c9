"""The result of an evaluation as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.metric_record import Metric
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import metrics_of
from distill3r_core.report import Table


def tables(result: Mapping[str, Any], *, label: str) -> tuple[Table, ...]:
    """The figures of models beside baselines and published figures."""
    metrics, units = metrics_of(PROTOCOLS[result["protocol"]]), result["units"]
    headings = [
        f"{one.heading} ({units[one.name]})" if one.describe else one.heading for one in metrics
    ]
    models = result.get("models") or {label: result["metrics"]}
    named = [
        *models.items(),
        *((f"on {name}", one) for name, one in result.get("caches", {}).items()),
        *((f"baseline: {BASELINES[name].title}", one) for name, one in result["baselines"].items()),
        *((f"published: {name}", one) for name, one in result["published"].items()),
    ]
    title = (
        f"{result['protocol']} · {result['data']} · grid {result['grid']} · {result['views']} views"
    )
    if "scale" in units:
        title += f" · scale in {units['scale']}"
    rows = tuple((name, *_cells(figures, metrics)) for name, figures in named)
    found = [Table(title, ("", *headings), rows)]
    if len(result["sequences"]) > 1:
        rows = tuple(
            (str(one["name"]), str(one["views"]), *_cells(one["metrics"], metrics))
            for one in result["sequences"]
        )
        found.append(Table("by sequence", ("", "views", *headings), rows))
    return tuple(found)


def _cells(
    figures: Mapping[str, float | None] | None, metrics: Sequence[Metric]
) -> tuple[str, ...]:
    cells = []
    for metric in metrics:
        value = None if figures is None else figures.get(metric.name)
        cells.append("-" if value is None else format(value, metric.format))
    return tuple(cells)
