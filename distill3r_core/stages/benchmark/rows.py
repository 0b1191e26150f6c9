"""The rows of a benchmark, and how many times longer one model takes than another."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill3r_core.stages.benchmark.counts import floor_seconds
from distill3r_core.stages.benchmark.forwards import STUDENT, TEACHER, TEACHER_REFERENCE, Subject
from distill3r_core.stages.benchmark.timing import Calibration, Trial

ITEM_BYTES = {"float32": 4, "bfloat16": 2}

# Seconds and GB on an RTX 6000 Ada: Table I of arXiv:2602.00865, student at 378x518, teacher at
# 384x512.
TABLE1: Mapping[str, Mapping[int, tuple[float, float]]] = {
    TEACHER: {12: (0.32, 6.86), 32: (1.14, 12.11), 64: (3.26, 21.11), 96: (6.35, 32.36),
              128: (10.11, 44.36)},
    STUDENT: {12: (0.13, 4.05), 32: (0.41, 9.97), 64: (1.02, 21.80), 96: (1.78, 28.69),
              128: (2.69, 31.90)},
}  # fmt: skip
TABLE1_SIZE = {TEACHER: (384, 512), STUDENT: (378, 518)}


@dataclass(frozen=True)
class Row:
    """One model at one number of views. Seconds are those of a forward, medians where not said.

    Args:
        model: Its name.
        preset: Of the student, or the name of what was given; of a teacher its own name.
        views: How many.
        size: Rows and columns.
        status: measured, "out of memory" or "skipped, estimated".
        runs: Timed ones.
        warmups: Runs before them.
        seconds: Wall time.
        seconds_min: The shortest.
        seconds_max: The longest.
        cpu_seconds: Of all threads.
        cpu_seconds_min: The least.
        end_to_end_seconds: With copies of pictures from, and of maps to, the host.
        peak_bytes: Allocated on the device; on a CPU the process's resident size.
        peak_reserved_bytes: Taken from the device; None on a CPU.
        tflop: Arithmetic of one forward.
        tflop_per_second: That over the time.
        floor_seconds: The least time at the rates that this device reached in this run.
        floor_share: That over the time: 1 is as fast as the device allows for the arithmetic that
            is counted, of which the student leaves some out.
        estimated_seconds: Judged from one view and the counts; what a skipped row would take.
        table1_seconds: The paper's figure, on another GPU; None at other sizes.
        table1_gb: The paper's peak memory.
        all_seconds: Of every timed run, in order.
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
    tflop: float
    tflop_per_second: float | None
    floor_seconds: float | None
    floor_share: float | None
    estimated_seconds: float | None
    table1_seconds: float | None
    table1_gb: float | None
    all_seconds: tuple[float, ...] = ()


def row_of(trial: Trial, device: Calibration, *, label: str) -> Row:
    """The row of a trial.

    Args:
        trial: What was seen.
        device: That knows the device's rates.
        label: The student's preset or model.
    """
    contender, runs = trial.contender, trial.runs
    flop = contender.flop(trial.views)
    floor = None
    if device.flop_rate is not None and device.byte_rate is not None:
        floor = floor_seconds(
            contender.network,
            trial.views,
            contender.size,
            flop_rate=device.flop_rate,
            byte_rate=device.byte_rate,
            item_bytes=ITEM_BYTES[contender.subject.precision],
        )
    seconds = _median(runs, "seconds")
    published = None
    if contender.size == TABLE1_SIZE.get(contender.name) and _is_published(contender.subject):
        published = TABLE1[contender.name].get(trial.views)
    return Row(
        model=contender.name,
        preset=contender.name if contender.name in (TEACHER, TEACHER_REFERENCE) else label,
        views=trial.views,
        size="{}x{}".format(*contender.size),
        status=trial.status,
        runs=len(runs),
        warmups=trial.warmups,
        seconds=seconds,
        seconds_min=min((run["seconds"] for run in runs), default=None),
        seconds_max=max((run["seconds"] for run in runs), default=None),
        cpu_seconds=_median(runs, "cpu_seconds"),
        cpu_seconds_min=min((run["cpu_seconds"] for run in runs), default=None),
        end_to_end_seconds=_median(runs, "end_to_end_seconds"),
        peak_bytes=max((run["peak_bytes"] for run in runs), default=None),
        peak_reserved_bytes=max((run["peak_reserved_bytes"] or 0 for run in runs), default=0)
        or None,
        tflop=flop / 1e12,
        tflop_per_second=None if seconds is None else flop / seconds / 1e12,
        floor_seconds=floor,
        floor_share=None if seconds is None or floor is None else floor / seconds,
        estimated_seconds=trial.estimate if trial.estimate < float("inf") else None,
        table1_seconds=published and published[0],
        table1_gb=published and published[1],
        all_seconds=tuple(run["seconds"] for run in runs),
    )


def _is_published(subject: Subject) -> bool:
    """Whether it has the architecture that Table I was measured with."""
    if subject.name == TEACHER:
        return True
    return (subject.model, subject.preset, subject.head) == (None, "paper", "both")


def ratios(rows: Sequence[Row], *, on_cpu: bool) -> list[dict[str, Any]]:
    """For each number of views, how many times longer the compared models take.

    Args:
        rows: Of all models.
        on_cpu: Compare CPU-seconds, which other work on the machine moves less; else seconds.

    Returns:
        One entry per number of views: `views`, `ratio` (of the model named first, over the
        student; None where one of them was not measured), `flop_ratio`, `unit`, `model`, and
        under `models` the ratios of all compared models by name. Empty without them.
    """
    unit = "cpu_seconds" if on_cpu else "seconds"
    found = []
    for views in dict.fromkeys(row.views for row in rows):
        here = {row.model: row for row in rows if row.views == views}
        student = here.pop(STUDENT)
        if not here:
            return []
        by_name = {
            name: {
                "ratio": _over(getattr(row, unit), getattr(student, unit)),
                "flop_ratio": row.tflop / student.tflop,
            }
            for name, row in here.items()
        }
        first = next(iter(by_name))
        found.append(
            {"views": views, "model": first, "unit": unit, **by_name[first], "models": by_name}
        )
    return found


def _median(runs: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return statistics.median(run[key] for run in runs) if runs else None


def _over(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below
