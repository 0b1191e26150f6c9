"""The rows of a benchmark, and how many times longer one model takes than another."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill3r_core.nn.counts import floor_seconds
from distill3r_core.stages.benchmark.models import STUDENT
from distill3r_core.stages.benchmark.timing import BenchEntry, SpeedCalibration


@dataclass(frozen=True)
class BenchRow:
    """One model at one number of views. Seconds are medians over the timed forwards.

    Args:
        model: Name of the model.
        preset: Preset or label of the student; of a teacher, its name.
        views: Number of views.
        size: Rows and columns of a view.
        status: "measured", "out of memory" or "skipped, estimated".
        runs: Number of timed forwards.
        warmups: Number of forwards before them.
        seconds: Wall time.
        seconds_min: Shortest wall time.
        seconds_max: Longest wall time.
        cpu_seconds: CPU time of all threads.
        cpu_seconds_min: Least CPU time.
        end_to_end_seconds: Wall time with the copies of images from, and of maps to, the host.
        peak_bytes: Allocated on the device; on a CPU the process's resident size.
        peak_reserved_bytes: Reserved on the device; None on a CPU.
        tflop: Arithmetic of one forward; None where it is unknown.
        tflop_per_second: `tflop` over `seconds`.
        floor_seconds: Least time of the arithmetic at the rates measured on this device.
        floor_share: `floor_seconds` over `seconds`: 1 is as fast as the device allows for the
            counted arithmetic, of which the student leaves some out.
        estimated_seconds: Estimate from one view and the counts.
        table1_seconds: The paper's time, on another GPU; None at other sizes.
        table1_gb: The paper's peak memory.
        all_seconds: Wall time of every timed forward, in order.
    """

    model: str
    preset: str
    views: int
    size: str
    status: str
    runs: int
    warmups: int
    seconds: float | None
    seconds_min: float | None
    seconds_max: float | None
    cpu_seconds: float | None
    cpu_seconds_min: float | None
    end_to_end_seconds: float | None
    peak_bytes: int | None
    peak_reserved_bytes: int | None
    tflop: float | None
    tflop_per_second: float | None
    floor_seconds: float | None
    floor_share: float | None
    estimated_seconds: float | None
    table1_seconds: float | None
    table1_gb: float | None
    all_seconds: Sequence[float] = ()


def row_of(entry: BenchEntry, rates: SpeedCalibration, *, label: str) -> BenchRow:
    """The row of an entry.

    Args:
        entry: Measurement of the row.
        rates: SpeedCalibration that has the device's rates.
        label: Preset or name of the student.
    """
    model, views = entry.model, entry.views

    def every(key: str) -> list[Any]:
        return [run[key] for run in entry.runs if run[key] is not None]

    def median(key: str) -> float | None:
        return statistics.median(every(key)) if entry.runs else None

    seconds, floor, flop = median("seconds"), None, model.flop(views)
    parts = model.parts(views)
    if parts is not None and rates.flop_rate is not None and rates.byte_rate is not None:
        floor = floor_seconds(
            parts,
            flop_rate=rates.flop_rate,
            byte_rate=rates.byte_rate,
            item_bytes=model.dtype.itemsize,
        )
    published = model.published.get(views)
    if model.is_student and (model.path, model.preset, model.head) != (None, "paper", "both"):
        published = None  # of another architecture
    return BenchRow(
        model=model.name,
        preset=label if model.is_student else model.name,
        views=views,
        size="{}x{}".format(*model.size),
        status=entry.status,
        runs=len(entry.runs),
        warmups=entry.warmups,
        seconds=seconds,
        seconds_min=min(every("seconds"), default=None),
        seconds_max=max(every("seconds"), default=None),
        cpu_seconds=median("cpu_seconds"),
        cpu_seconds_min=min(every("cpu_seconds"), default=None),
        end_to_end_seconds=median("end_to_end_seconds"),
        peak_bytes=max(every("peak_bytes"), default=None),
        peak_reserved_bytes=max(every("peak_reserved_bytes"), default=None),
        tflop=flop and flop / 1e12,
        tflop_per_second=flop and seconds and flop / seconds / 1e12,
        floor_seconds=floor,
        floor_share=floor and seconds and floor / seconds,
        estimated_seconds=entry.estimate if entry.estimate < float("inf") else None,
        table1_seconds=published and published[0],
        table1_gb=published and published[1],
        all_seconds=every("seconds"),
    )


def ratios(rows: Sequence[BenchRow], *, on_cpu: bool) -> list[dict[str, Any]]:
    """For each number of views, how many times longer the compared models take.

    Args:
        rows: Rows of all models.
        on_cpu: Compare CPU-seconds, which other work on the machine moves less; else seconds.

    Returns:
        One entry per number of views: `views`, `ratio` (of the model named first, over the
        student; None where one of them was not measured), `flop_ratio`, `unit`, `model`, and
        under `models` the ratios of all compared models by name. Empty without them.
    """
    unit = "cpu_seconds" if on_cpu else "seconds"
    entries = []
    for views in dict.fromkeys(row.views for row in rows):
        by_model = {row.model: row for row in rows if row.views == views}
        student = by_model.pop(STUDENT)
        if not by_model:
            return []
        by_name = {
            name: {
                "ratio": _over(getattr(row, unit), getattr(student, unit)),
                "flop_ratio": _over(row.tflop, student.tflop),
            }
            for name, row in by_model.items()
        }
        first = next(iter(by_name))
        entries.append(
            {"views": views, "model": first, "unit": unit, **by_name[first], "models": by_name}
        )
    return entries


def _over(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below
