"""Measure the time and memory of a student, beside its teachers, by number of views."""

import math
import time

import torch

from distill3r_core import config, profiling
from distill3r_core.errors import OutOfMemoryError, RequestError
from distill3r_core.io.checksums import file_hash
from distill3r_core.models.checkpoint import find_student
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.runs.student_file import label_of, resolve_precision
from distill3r_core.stages.benchmark.budget import parse_views
from distill3r_core.stages.benchmark.device_header import header_of
from distill3r_core.stages.benchmark.entries import contenders
from distill3r_core.stages.benchmark.forward_report import publish, report_of
from distill3r_core.stages.benchmark.forward_worker import can_limit_memory
from distill3r_core.stages.benchmark.result_folder import Place, place_for
from distill3r_core.stages.benchmark.rows import row_of
from distill3r_core.stages.benchmark.settings import BenchSettings
from distill3r_core.stages.benchmark.timing import NO_MEMORY, Bench

CPU_BUDGET = 300.0  # seconds, where none is set
WARMUPS = {"cuda": 3}  # on other devices one
RUNS = {"cuda": 10}  # on other devices five
LEAST_WARMUPS, FEW_RUNS = 1, 5
AROUND = 0.02  # of the budget, for what is not measured: the program's start, the files


def benchmark(
    settings: BenchSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Measure forwards, each model and number of views in a process of its own.

    Args:
        settings: What is measured.
        overwrite: Replace another result in `settings.output`.
        progress: Reports every forward.

    Raises:
        ConflictError: `settings.output` holds another result.
        InputMissingError: There is no `settings.model`.
        RequestError: A teacher beside one head alone, or `memory_gb` where nothing would hold it.
        OutOfMemoryError: Every row ran out of memory; the result is written all the same.
    """
    progress = progress or Silent()
    begin = time.monotonic()
    device = profiling.pick_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    models = contenders(
        model=settings.model,
        preset=settings.preset,
        compare=settings.compare,
        size=config.parse_size(settings.size),
        device=device,
        precision=precision,
        head=settings.head,
    )
    if settings.memory_gb is not None and not can_limit_memory(device):
        raise RequestError(f"memory_gb: nothing limits a process's memory on {device.type} here")
    label, place = _place(settings, device, overwrite=overwrite)
    plain = config.as_plain(settings)
    if place.finished:
        return report_of(place, plain, place.result())
    budget = _budget(settings, device, progress)
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
    rates = max(known, key=lambda found: found.flop_rate or 0.0)
    trials = bench.measure(models, parse_views(settings.views), known)
    rows = [row_of(trial, rates, label=label) for trial in trials]
    header = header_of(device, precision, models[0], rates, budget)
    report = publish(place, settings=plain, header=header, rows=rows)
    if all(row.status == NO_MEMORY for row in rows):
        raise OutOfMemoryError(
            f"every row ran out of memory; the table is in {place.folder}",
            hint="fewer views with --views, or smaller ones with --size",
        )
    return report


def _place(settings: BenchSettings, device: torch.device, *, overwrite: bool) -> tuple[str, Place]:
    """What the student is called, and where the result goes."""
    label, weights = settings.preset, None
    if settings.model is not None:
        path = find_student(settings.model)
        label, weights = label_of(path), file_hash(path)
    place = place_for(
        label,
        config.as_plain(settings),
        chosen=settings.output,
        device=device,
        inputs=weights,
        overwrite=overwrite,
    )
    return label, place


def _budget(settings: BenchSettings, device: torch.device, progress: Progress) -> float | None:
    """Seconds in all; None: no end."""
    if settings.budget is None and device.type != "cuda":
        progress.note(f"on a {device.type} the budget is {CPU_BUDGET:.0f} s; --budget changes it")
        return CPU_BUDGET
    return settings.budget
