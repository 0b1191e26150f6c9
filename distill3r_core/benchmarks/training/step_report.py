"""What the steps of training cost, told to a person."""

from collections.abc import Mapping
from typing import Any

from distill3r_core.report import Report, Table
from distill3r_core.stages.benchmark.result_folder import Place

PARTS = ("data", "forward", "backward", "optimizer")
_GB = 1e9
_NOTHING = "–"


def report_of(place: Place, settings: Mapping[str, Any], result: Mapping[str, Any]) -> Report:
    """What a person is told of a result.

    Args:
        place: Of the result.
        settings: As plain data.
        result: What was measured.
    """
    loops = {"batched": result["step"], "one sample at a time": result["one_at_a_time"]}
    rows = [_row(label, found) for label, found in loops.items() if found is not None]
    table = Table(
        f"A step, median of {result['rounds']}, seconds",
        ("", *PARTS, "computing", "CPU", "peak GB", "kernels"),
        tuple(rows),
    )
    misfits = [f"{label}: {why}" for label, why in _misfits(loops)]
    return place.report(settings, result, tables=[table], notes=[*_findings(result), *misfits])


def _misfits(loops: Mapping[str, Mapping[str, Any] | None]) -> list[tuple[str, str]]:
    return [
        (label, found["out_of_memory"])
        for label, found in loops.items()
        if found is not None and found["out_of_memory"] is not None
    ]


def _row(label: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    if found["out_of_memory"] is not None:
        return (label, *[_NOTHING] * len(PARTS), "out of memory", *[_NOTHING] * 3)
    seconds, peak = found["seconds"], found["peak_bytes"]
    return (
        label,
        f"{found['data']:.3f}" if "data" in found else _NOTHING,
        *(f"{found[name]:.3f}" for name in PARTS[1:]),
        f"{seconds['median']:.3f} ({seconds['least']:.3f} to {seconds['most']:.3f})",
        f"{found['cpu']:.3f}",
        ", ".join(f"{bytes_ / _GB:.2f} {what}" for what, bytes_ in peak.items()),
        _NOTHING if found["kernels"] is None else str(found["kernels"]),
    )


def _findings(result: Mapping[str, Any]) -> list[str]:
    """What a person should know of it, in sentences."""
    found = []
    if result["ratio"] is not None:
        pairs = result["ratio_of_pairs"]
        found.append(
            f"batched is {result['ratio']:.2f} times as fast ({pairs['least']:.2f} to "
            f"{pairs['most']:.2f} in single pairs, {result['ratio_cpu']:.2f} in CPU time)"
        )
    rates, step = result["samples_per_second"], result["step"]
    if step["out_of_memory"] is None:
        found.append(
            f"waiting for data: {step['data_share']:.1%} of a step; the loader gives "
            f"{rates['loader']:.1f} samples/s, a step needs {rates['needed']:.1f}"
        )
    return found
