"""The result of an evaluation as CSV, Markdown and one page that needs no other file."""

import base64
import csv
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.metric_record import Metric
from distill3r_core.files import write_text
from distill3r_core.report import Table

_BAR, _ROW, _LABEL = 260, 22, 190  # pixels of a chart: longest bar, height of a row, its label

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; } figure { display: inline-block; margin: .5em 1em .5em 0; }
figcaption { font-weight: 600; } dt { font-weight: 600; } dd { margin: 0 0 .4em 1.5em; }
"""


def write_csv(path: Path, result: Mapping[str, Any]) -> None:
    """Every figure, one a line: of whom, of which sequence ("" for the data set), value, unit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("protocol", "of", "sequence", "metric", "value", "unit"))
    for name, sequence, figures in _figures(result):
        for metric, value in (figures or {}).items():
            shown = "" if value is None else repr(value)
            unit = result["units"].get(metric, "")
            writer.writerow((result["protocol"], name, sequence, metric, shown, unit))
    write_text(path, text.getvalue())


def _figures(
    result: Mapping[str, Any],
) -> Iterator[tuple[str, str, Mapping[str, float | None] | None]]:
    for label, figures in result["models"].items():
        yield label, "", figures
        for one in result["model_sequences"][label]:
            yield label, one["name"], one["metrics"]
    for label, figures in result["without_refinement"].items():
        yield f"{label}, not refined", "", figures
    for name, figures in result["baselines"].items():
        yield BASELINES[name].title, "", figures
    for name, figures in result["published"].items():
        yield f"{name}, published", "", figures


def write_markdown(path: Path, tables: Sequence[Table], rules: Mapping[str, str]) -> None:
    """The tables, and the rules by which they were made."""
    lines = []
    for table in tables:
        lines += [f"### {table.title}", "", _markdown_row(table.columns)]
        lines.append(_markdown_row([":--", *["--:"] * (len(table.columns) - 1)]))
        lines += [*map(_markdown_row, table.rows), ""]
    lines += ["### Rules", "", *(f"- {name}: {text}" for name, text in rules.items())]
    write_text(path, "\n".join(lines) + "\n")


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def write_page(
    path: Path,
    result: Mapping[str, Any],
    tables: Sequence[Table],
    metrics: Sequence[Metric],
    images: Mapping[str, Path],
) -> None:
    """One page with tables, charts, error maps and rules.

    Args:
        metrics: Those that get a chart.
        images: PNG files by heading, the worst views last; they become part of the page.
    """
    parts = [f"<h1>{html.escape(tables[0].title)}</h1>", *map(_html_table, tables[:1])]
    parts += [_chart(result, metric) for metric in metrics]
    for heading, image in images.items():
        data = base64.b64encode(image.read_bytes()).decode()
        parts.append(f'<h2>{html.escape(heading)}</h2><img src="data:image/png;base64,{data}">')
    worst = "".join(f"<li>{html.escape(view)}</li>" for view in result["worst_views"])
    parts.append(f"<ol>{worst}</ol>")  # below their image, in its order
    parts += [f"<h2>{html.escape(table.title)}</h2>{_html_table(table)}" for table in tables[1:]]
    rules = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"
        for name, text in result["rules"].items()
    )
    body = "\n".join([*parts, f"<h2>Rules</h2><dl>{rules}</dl>"])
    write_text(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(tables[0].title)}</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>\n",
    )


def _html_table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    rows = "".join(row(cells, "td") for cells in table.rows)
    return f"<table>{row(table.columns, 'th')}{rows}</table>"


def _chart(result: Mapping[str, Any], metric: Metric) -> str:
    """Bars of one figure, of models and baselines."""
    bars = [
        (name, value)
        for name, sequence, figures in _figures(result)
        if not sequence and figures and (value := figures.get(metric.name)) is not None
    ]
    if not bars:
        return ""
    longest = max(abs(value) for _, value in bars) or 1.0
    models = set(result["models"])
    rows = []
    for number, (name, value) in enumerate(bars):
        y, width = number * _ROW, abs(value) / longest * _BAR
        color = "#2b6cb0" if name in models else "#a0aec0"
        rows.append(
            f'<text x="0" y="{y + 15}">{html.escape(name[:28])}</text>'
            f'<rect x="{_LABEL}" y="{y + 3}" width="{width:.1f}" height="15" fill="{color}"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{y + 15}">{value:{metric.format}}</text>'
        )
    size = f'width="{_LABEL + _BAR + 80}" height="{len(bars) * _ROW}"'
    unit = html.escape(result["units"][metric.name])
    return (
        f"<figure><figcaption>{html.escape(metric.heading)} ({unit}; {metric.better} is better)"
        f'</figcaption><svg {size} font-size="12" font-family="sans-serif">'
        f"{''.join(rows)}</svg></figure>"
    )
