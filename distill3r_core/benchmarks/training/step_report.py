"""The result of `bench train` as a table and sentences."""

from collections.abc import Mapping
from typing import Any

from distill3r_core.report import Report, Table
from distill3r_core.stages.benchmark.result_folder import ResultFolder

PARTS = ("data", "forward", "backward", "optimizer")
_GB = 1e9
_NOTHING = "–"


def report_of(folder: ResultFolder, result: Mapping[str, Any]) -> Report:
    """The report of a result of `bench_train`."""
    step, rates = result["step"], result["samples_per_second"]
    loops = {"batched": step, "one sample at a time": result["one_at_a_time"]}
    measured = {label: figures for label, figures in loops.items() if figures is not None}
    table = Table(
        f"A step, median of {result['rounds']}, seconds",
        ("", *PARTS, "computing", "CPU", "peak GB", "kernels"),
        tuple(_row(label, figures) for label, figures in measured.items()),
    )
    notes = []
    if result["ratio"] is not None:
        pairs = result["ratio_of_pairs"]
        notes.append(
            f"batched is {result['ratio']:.2f} times as fast ({pairs['least']:.2f} to "
            f"{pairs['most']:.2f} in single pairs, {result['ratio_cpu']:.2f} in CPU time)"
        )
    if step["out_of_memory"] is None:
        notes.append(
            f"waiting for data: {step['data_share']:.1%} of a step; the loader gives "
            f"{rates['loader']:.1f} samples/s, a step needs {rates['needed']:.1f}"
        )
    notes += [
        f"{label}: {figures['out_of_memory']}"
        for label, figures in measured.items()
        if figures["out_of_memory"] is not None
    ]
    return folder.report(result, tables=[table], notes=notes)


def _row(label: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    if figures["out_of_memory"] is not None:
        return (label, *[_NOTHING] * len(PARTS), "out of memory", *[_NOTHING] * 3)
    seconds = figures["seconds"]
    return (
        label,
        f"{figures['data']:.3f}" if "data" in figures else _NOTHING,
        *(f"{figures[name]:.3f}" for name in PARTS[1:]),
        f"{seconds['median']:.3f} ({seconds['least']:.3f} to {seconds['most']:.3f})",
        f"{figures['cpu']:.3f}",
        ", ".join(f"{count / _GB:.2f} {what}" for what, count in figures["peak_bytes"].items()),
        _NOTHING if figures["kernels"] is None else str(figures["kernels"]),
    )
