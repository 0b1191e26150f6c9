"""The result of `bench`: a table, a chart, and the record that keeps them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill3r_core.io.charts import Line, save_line_chart
from distill3r_core.report import Report, Table
from distill3r_core.stages.benchmark.models import STUDENT
from distill3r_core.stages.benchmark.result_folder import ResultFolder
from distill3r_core.stages.benchmark.rows import BenchRow, ratios
from distill3r_core.stages.benchmark.timing import MEASURED, SKIPPED

CHART = "bench.png"
GB = 1e9


def publish(folder: ResultFolder, *, header: Mapping[str, Any], rows: Sequence[BenchRow]) -> Report:
    """Write a result with its chart.

    Args:
        header: Device, driver, versions, precision, attention: plain data for a person to read.
    """
    result = {
        "header": dict(header),
        "rows": [dataclasses.asdict(row) for row in rows],
        "ratios": ratios(rows, on_cpu=header["device"] == "cpu"),
    }
    _draw(folder.folder / CHART, rows, header)
    folder.write(result, CHART)
    return report_of(folder, result)


def report_of(folder: ResultFolder, result: Mapping[str, Any]) -> Report:
    """The report of a result that `publish` wrote."""
    rows = [BenchRow(**row) for row in result["rows"]]
    tables = [_table(rows, result["header"])]
    if result["ratios"]:
        tables.append(_ratio_table(result["ratios"]))
    notes = []
    if any(row.status == SKIPPED for row in rows):
        notes.append(
            "~ rows did not fit into the budget: their time is estimated from one view and the "
            "arithmetic. --budget SECONDS gives more."
        )
    if any(row.table1_seconds for row in rows):
        notes.append("Table I (arXiv:2602.00865) was measured on an RTX 6000 Ada.")
    return folder.report(result, tables=tables, notes=notes, files=[CHART])


def _table(rows: Sequence[BenchRow], header: Mapping[str, Any]) -> Table:
    named = ("name", "driver", "torch", "precision", "attention", "heads", "head")
    facts = [header.get(key) for key in named]
    if header.get("threads"):
        facts.insert(1, f"{header['threads']} thread{'s' * (header['threads'] > 1)}")
    columns = (
        "model", "views", "size", "seconds", "min .. max", "runs", "CPU-s", "end to end s",
        "peak GB", "reserved GB", "TFLOP/s", "of the floor", "Table I s", "Table I GB",
    )  # fmt: skip
    cells = [_cells(row) for row in rows]
    # Empty columns (those of a GPU, or of the paper at other sizes) are left out.
    filled = [index for index in range(len(columns)) if any(row[index] for row in cells)]
    return Table(
        " · ".join(["forward", *filter(None, facts)]),
        tuple(columns[index] for index in filled),
        tuple(tuple(row[index] for index in filled) for row in cells),
        keys=2,
    )


def _cells(row: BenchRow) -> tuple[str, ...]:
    if row.status == MEASURED:
        spread = f"{row.seconds_min:.3g} .. {row.seconds_max:.3g}"
        seconds = _number(row.seconds)
    else:
        expected = "" if row.estimated_seconds is None else f"~{row.estimated_seconds:.3g} "
        seconds, spread = f"{expected}{row.status}", ""
    gigabytes = (
        "" if value is None else f"{value / GB:.2f}"
        for value in (row.peak_bytes, row.peak_reserved_bytes)
    )
    return (
        row.model if row.model != STUDENT else f"{row.model} {row.preset}",
        str(row.views),
        row.size,
        seconds,
        spread,
        str(row.runs or ""),
        _number(row.cpu_seconds),
        _number(row.end_to_end_seconds),
        *gigabytes,
        _number(row.tflop_per_second),
        "" if row.floor_share is None else f"{row.floor_share:.0%}",
        _number(row.table1_seconds),
        _number(row.table1_gb),
    )


def _ratio_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    names = list(entries[0]["models"])
    unit = entries[0]["unit"].replace("cpu_seconds", "CPU-seconds")
    columns = ("views", *(f"{name} / student ({unit})" for name in names), "in FLOP")
    cells = [
        (
            str(entry["views"]),
            *(_number(entry["models"][name]["ratio"]) for name in names),
            " / ".join(_number(entry["models"][name]["flop_ratio"]) for name in names),
        )
        for entry in entries
    ]
    return Table("how many times longer", columns, tuple(cells))


def _draw(path: Path, rows: Sequence[BenchRow], header: Mapping[str, Any]) -> None:
    views = sorted({row.views for row in rows})
    lines: list[Line] = []
    for color, model in enumerate(dict.fromkeys(row.model for row in rows)):
        mine = [row for row in rows if row.model == model]
        if any(row.seconds is not None for row in mine):
            lines.append(_line(model, mine, "seconds", color))
        floor = _line(f"{model}, floor of this device", mine, "floor_seconds", color)
        known = any(row.floor_seconds is not None for row in mine)
        if known and all(floor.y != line.y for line in lines):  # one network has one floor
            lines.append(floor)
        if any(row.table1_seconds for row in mine):
            label = f"{model}, Table I (RTX 6000 Ada)"
            lines.append(_line(label, mine, "table1_seconds", color))
    save_line_chart(
        path,
        lines,
        title=f"forward on {header['name']}, {header['precision']}",
        x_label="views",
        y_label="seconds",
        x_scale="log",
        y_scale="log",
        x_ticks=views,
    )


def _line(label: str, rows: Sequence[BenchRow], key: str, color: int) -> Line:
    """One figure of a model's rows, dashed where it was not measured in this run."""
    values = [getattr(row, key) for row in rows]
    return Line(
        label,
        [row.views for row in rows],
        [float("nan") if value is None else value for value in values],
        dashed=key != "seconds",
        markers=key != "floor_seconds" or len(rows) == 1,  # a single point is no line
        color=color,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
