"""`bench`: time and memory of a student, beside other models, by number of views."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill3r_core import config, profiling
from distill3r_core.errors import OutOfMemoryError, RequestError
from distill3r_core.io.checksums import file_hash
from distill3r_core.models.checkpoint import find_student
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.runs.student_file import label_of, resolve_precision
from distill3r_core.stages.benchmark.budget import parse_views
from distill3r_core.stages.benchmark.forward_report import publish, report_of
from distill3r_core.stages.benchmark.forward_worker import can_limit_memory
from distill3r_core.stages.benchmark.models import STUDENT, BenchModel, bench_models
from distill3r_core.stages.benchmark.result_folder import claim_folder
from distill3r_core.stages.benchmark.rows import row_of
from distill3r_core.stages.benchmark.settings import BenchSettings
from distill3r_core.stages.benchmark.timing import NO_MEMORY, Bench, SpeedCalibration

CPU_BUDGET = 300.0  # seconds, where none is set
WARMUPS, RUNS = {"cuda": 3}, {"cuda": 10}
CPU_WARMUPS, CPU_RUNS = 1, 5
RESERVE = 0.02  # share of the budget for what is not measured: the program's start, the files
DRIVER = Path("/proc/driver/nvidia/version")


def benchmark(
    settings: BenchSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Measure forwards, each model and number of views in a process of its own.

    Args:
        overwrite: Replace another result in `settings.output`.
        progress: Receives every forward.

    Raises:
        ConflictError: `settings.output` holds another result.
        InputMissingError: There is no `settings.model`.
        RequestError: A teacher beside one head alone, or `memory_gb` where it cannot be enforced.
        OutOfMemoryError: Every row ran out of memory; the result is written all the same.
    """
    progress = progress or Silent()
    begin = time.monotonic()
    device = profiling.pick_device(settings.device)
    student = BenchModel(
        STUDENT,
        preset=settings.preset,
        path=settings.model,
        device=device,
        precision=resolve_precision(settings.precision, device),
        size=config.parse_size(settings.size),
        head=settings.head,
    )
    models = bench_models(student, settings.compare, teacher=settings.teacher)
    if settings.memory_gb is not None and not can_limit_memory(device):
        raise RequestError(f"memory_gb: nothing limits a process's memory on {device.type} here")
    weights = None if settings.model is None else find_student(settings.model)
    label = settings.preset if weights is None else label_of(weights)
    plain = config.as_plain(settings)
    if not settings.teacher:  # results of earlier versions have none
        del plain["teacher"]
    folder = claim_folder(
        label,
        plain,
        chosen=settings.output,
        device=device,
        inputs=None if weights is None else file_hash(weights),
        overwrite=overwrite,
    )
    if folder.finished:
        return report_of(folder, folder.read())
    budget = settings.budget
    if budget is None and device.type != "cuda":
        budget = CPU_BUDGET
        progress.note(f"on a {device.type} the budget is {budget:.0f} s; --budget changes it")
    bench = Bench(
        deadline=math.inf if budget is None else begin + budget * (1 - RESERVE),
        warmups=settings.warmups or WARMUPS.get(device.type, CPU_WARMUPS),
        runs=settings.runs or RUNS.get(device.type, CPU_RUNS),
        seed=settings.seed,
        memory_bytes=None if settings.memory_gb is None else int(settings.memory_gb * 1e9),
        progress=progress,
    )
    progress.begin("bench", total=None, unit="forwards")
    calibrations = [bench.calibrate(model) for model in models]
    # One floor for all models: by the process that the machine disturbed least.
    rates = max(calibrations, key=lambda each: each.flop_rate or 0.0)
    entries = bench.measure(models, parse_views(settings.views), calibrations)
    rows = [row_of(entry, rates, label=label) for entry in entries]
    report = publish(folder, header={**_header(models, rates), "budget": budget}, rows=rows)
    if all(row.status == NO_MEMORY for row in rows):
        raise OutOfMemoryError(
            f"every row ran out of memory; the table is in {folder.folder}",
            hint="fewer views with --views, or smaller ones with --size",
        )
    return report


def _header(models: Sequence[BenchModel], rates: SpeedCalibration) -> dict[str, Any]:
    """What a reader must know to compare the figures: device, versions, precision, kernels."""
    student, *others = models
    machine = profiling.machine(student.device)
    driver = None
    if student.device.type == "cuda" and DRIVER.is_file():
        words = DRIVER.read_text().splitlines()[0].split()
        driver = next((f"driver {word}" for word in words if word[:1].isdigit()), None)
    rows, columns = student.size
    return {
        "device": student.device.type,
        "name": machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores",
        "driver": driver,
        "torch": f"torch {machine['torch']}",
        "precision": student.precision,
        "attention": rates.facts.get("attention"),
        "heads": rates.facts.get("heads"),
        "head": None if student.head == "both" else f"{student.head} head alone",
        "threads": rates.facts.get("threads") if student.device.type == "cpu" else None,
        "size": f"{rows}x{columns}",
        "flop_rate": rates.flop_rate,
        "byte_rate": rates.byte_rate,
        "teacher_settings": {
            model.name: dict(model.teacher_settings) for model in others if model.teacher
        },
    }
