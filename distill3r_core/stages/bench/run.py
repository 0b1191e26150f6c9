"""Measure the time and memory of a student, beside its teachers, by number of views."""

import math
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config, profiling
from distill3r_core.config import STRICT
from distill3r_core.errors import OutOfMemoryError
from distill3r_core.io.checksums import file_hash
from distill3r_core.models import SPECS
from distill3r_core.models.checkpoint import find_student
from distill3r_core.models.spec import PATCH
from distill3r_core.models.student import HeadName
from distill3r_core.profiling import DeviceName
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.stages.bench.measure import NO_MEMORY, Bench, Calibration
from distill3r_core.stages.bench.place import place_for
from distill3r_core.stages.bench.plan import parse_views
from distill3r_core.stages.bench.report import publish, read_report
from distill3r_core.stages.bench.rows import row_of
from distill3r_core.stages.bench.subjects import Contender, contenders, parse_models
from distill3r_core.stages.student_file import Precision, label_of, resolve_precision

CPU_BUDGET = 300.0  # seconds, where none is set
WARMUPS = {"cuda": 3}  # on other devices one
RUNS = {"cuda": 10}  # on other devices five
LEAST_WARMUPS, FEW_RUNS = 1, 5
AROUND = 0.02  # of the budget, for what is not measured: the program's start, the files
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Texts that are read when the measurement begins, and refused before.
ViewsText = Annotated[str, config.reads(parse_views)]
SizeText = Annotated[str, config.LOWER, config.reads(partial(config.parse_size, step=PATCH))]
PresetName = Annotated[str, config.reads(SPECS.__getitem__)]
ModelsText = Annotated[str, config.reads(parse_models)]
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, config=STRICT)
class BenchSettings:
    """What is measured, and for how long."""

    views: ViewsText = "12..128"  # A..B: the paper's points; A..B..S: steps; or numbers by commas
    size: SizeText = "378x518"  # rows x columns; a teacher's are rounded to its own patch
    preset: PresetName = "paper"  # of a student with random weights
    model: Path | None = None  # a run or a file to measure instead
    compare: ModelsText = ""  # models beside the student, by commas
    budget: Positive | None = None  # seconds; None: 300, on a GPU no end
    precision: Precision = "auto"  # auto: bfloat16 on a GPU that has it
    head: HeadName = "both"  # of the student; the others are left out
    device: DeviceName = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    warmups: Annotated[int, Field(ge=1)] | None = None  # of a row; None: 3 on a GPU, else 1
    runs: Annotated[int, Field(ge=1)] | None = None  # timed, of a row; None: 10 on a GPU, else 5
    memory_gb: Positive | None = None  # as if there were no more (1e9 bytes)
    output: Path | None = None  # None: results/bench/<preset>-NNN, the next number


def benchmark(
    settings: BenchSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Measure forwards, each model and number of views in a process of its own.

    Args:
        settings: What is measured.
        overwrite: Replace another result in `settings.output`.
        progress: Told of every forward.

    Raises:
        ConfigError: Views, size, preset or a model's name do not fit.
        ConflictError: `settings.output` holds another result.
        InputMissingError: There is no `settings.model`.
        OutOfMemoryError: Every row ran out of memory; the result is written all the same.
    """
    progress = progress or Silent()
    begin = time.monotonic()
    views, size = parse_views(settings.views), config.parse_size(settings.size)
    device = profiling.pick_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    models = contenders(
        model=settings.model,
        preset=settings.preset,
        compare=settings.compare,
        size=size,
        device=device,
        precision=precision,
        head=settings.head,
    )
    plain = config.as_plain(settings)
    label, weights = settings.preset, None
    if settings.model is not None:
        path = find_student(settings.model)
        label, weights = label_of(path), file_hash(path)
    place = place_for(
        label, plain, chosen=settings.output, device=device, inputs=weights, overwrite=overwrite
    )
    if place.finished:
        return read_report(place, plain)

    budget = settings.budget
    if budget is None and device.type != "cuda":
        budget = CPU_BUDGET
        progress.note(f"on a {device.type} the budget is {budget:.0f} s; --budget changes it")
    bench = Bench(
        deadline=math.inf if budget is None else begin + budget * (1 - AROUND),
        warmups=settings.warmups or WARMUPS.get(device.type, LEAST_WARMUPS),
        runs=settings.runs or RUNS.get(device.type, FEW_RUNS),
        seed=settings.seed,
        memory_bytes=None if settings.memory_gb is None else int(settings.memory_gb * 1e9),
        progress=progress,
    )
    progress.begin("bench", total=None, unit="forwards")
    known = [bench.calibrate(model) for model in models]
    # One floor for all models: that of the process that the machine disturbed least.
    device_rates = max(known, key=lambda found: found.flop_rate or 0.0)
    trials = bench.measure(models, views, known)
    rows = [row_of(trial, device_rates, label=label) for trial in trials]
    report = publish(
        place,
        settings=plain,
        header=_header(device, precision, models[0], device_rates, budget),
        rows=rows,
    )
    if all(row.status == NO_MEMORY for row in rows):
        raise OutOfMemoryError(
            f"every row ran out of memory; the table is in {place.folder}",
            hint="fewer views with --views, or smaller ones with --size",
        )
    return report


def _header(
    device: torch.device,
    precision: str,
    student: Contender,
    known: Calibration,
    budget: float | None,
) -> dict[str, Any]:
    """What a reader must know to compare these figures with others."""
    machine = profiling.machine(device)
    rows, columns = student.size
    return {
        "device": device.type,
        "name": machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores",
        "driver": _driver(device),
        "torch": f"torch {machine['torch']}",
        "precision": precision,
        "attention": known.facts.get("attention"),
        "heads": known.facts.get("heads"),
        "head": None if student.subject.head == "both" else f"{student.subject.head} head alone",
        "threads": known.facts.get("threads") if device.type == "cpu" else None,
        "size": f"{rows}x{columns}",
        "budget": budget,
        "flop_rate": known.flop_rate,
        "byte_rate": known.byte_rate,
    }


def _driver(device: torch.device) -> str | None:
    """The version of the GPU's driver, where it can be told."""
    if device.type != "cuda" or not DRIVER.is_file():
        return None
    words = DRIVER.read_text().splitlines()[0].split()
    return next((f"driver {word}" for word in words if word[:1].isdigit()), None)
