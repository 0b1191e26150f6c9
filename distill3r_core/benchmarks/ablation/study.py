"""`bench ablation`: does the teacher's confidence help? The paper's Table III, measured.

Students learn from a teacher that errs where it is unsure, with and without the parts of the loss
that use its confidence, and are scored against the truth, which the teacher does not know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config, paths, profiling
from distill3r_core.benchmarks.ablation.score_tables import paired, summary, tables
from distill3r_core.benchmarks.ablation.student_trial import Trial
from distill3r_core.benchmarks.ablation.trial_processes import Job, work_off
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.results import claim, read_record, write_record
from distill3r_core.training.settings import PRESETS, Count, LossSettings, Size, TrainSettings

Variant = Literal["labels-only", "no-weighting", "full", "student-confidence"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
AGAINST = "full"  # what the others are compared with, seed by seed
TEACHER = "teacher"
STUDENTS = "students"  # folder of what the finished ones gave


@dataclass(frozen=True, config=config.STRICT)
class AblationSettings:
    """What is compared, and how much of it."""

    seeds: Count = 3
    seed: Annotated[int, Field(ge=0)] = 0  # the first of them
    # Shipped configurations `ablation-<name>`.
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = VARIANTS
    steps: Count = 600
    batch: Count = 1
    views: Annotated[int, Field(ge=2)] = 8
    size: Size = (84, 112)
    scenes: Count = 4
    frames: Count = 48  # of each scene
    every: Annotated[int, Field(ge=2)] = 6  # of them is held out, between those learned from
    lr: Annotated[float, Field(gt=0)] = 1.5e-3
    processes: Count = 2  # of one thread each
    output: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)  # changes to the tiny student

    @model_validator(mode="after")
    def _fits(self) -> "AblationSettings":
        held_out = -(-self.frames // self.every)
        if self.frames - held_out < self.views:
            raise ValueError(
                f"{self.frames} frames of which {held_out} are held out are too few for "
                f"{self.views} views"
            )
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants: one stands twice in {', '.join(self.variants)}")
        return self


def bench_ablation(
    settings: AblationSettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Train every variant from every seed, score it against the truth, and say what came out.

    What each student gave is kept as soon as it is finished: the same call goes on with the others.

    Args:
        settings: What is compared.
        overwrite: Replace another result in the folder that was named.
        progress: Where to report to.

    Raises:
        ConflictError: The folder that was named holds another result.
        KeyboardInterrupt: Somebody asked for it; the finished students are kept.
    """
    plain = config.as_plain(settings)
    compared = {key: plain[key] for key in plain if key not in ("output", "processes")}
    identity = {"settings": compared}  # and no machine: it changes how long it takes
    losses = _losses(settings)
    claimed = claim(
        paths.RESULTS / "bench" / "ablation",
        chosen=settings.output,
        identity=identity,
        overwrite=overwrite,
    )
    if claimed.finished:
        found = read_record(claimed.folder)["result"]
        return _report(plain, found, claimed.folder, before=True)
    jobs = _jobs(settings, losses, claimed.folder / STUDENTS)
    _finish(jobs, settings, claimed.folder, progress)
    result = _result(settings, jobs)
    write_record(claimed.folder, identity=identity, machine=profiling.machine(), result=result)
    return _report(plain, result, claimed.folder, before=False)


def _losses(settings: AblationSettings) -> dict[str, LossSettings]:
    return {
        name: config.resolve(
            TrainSettings, section="train", config=f"ablation-{name}", presets=PRESETS
        ).loss
        for name in settings.variants
    }


def _jobs(
    settings: AblationSettings, losses: Mapping[str, LossSettings], folder: Path
) -> list[Job]:
    """Seed by seed, so that an early end leaves whole comparisons."""

    def job(variant: str, loss: LossSettings | None, seed: int) -> Job:
        trial = Trial(
            variant=variant,
            loss=loss,
            seed=seed,
            steps=settings.steps,
            batch=settings.batch,
            views=settings.views,
            size=settings.size,
            scenes=settings.scenes,
            frames=settings.frames,
            every=settings.every,
            lr=settings.lr,
            model=settings.model,
        )
        return Job(trial, folder / f"{variant}-{seed}.json")

    seeds = range(settings.seed, settings.seed + settings.seeds)
    kinds = {**losses, TEACHER: None}
    return [job(variant, loss, seed) for seed in seeds for variant, loss in kinds.items()]


def _finish(
    jobs: Sequence[Job], settings: AblationSettings, folder: Path, progress: Progress
) -> None:
    """Do the jobs that nobody has finished yet."""
    missing = [job for job in jobs if job.kept() is None]
    if len(missing) < len(jobs):
        progress.note(f"{len(jobs) - len(missing)} of {len(jobs)} are there already")
    steps = settings.steps * sum(job.trial.loss is not None for job in missing)
    progress.begin("ablation", total=steps, unit="steps")

    def show(job: Job) -> None:
        run = _run(job)
        progress.advance(0, last=job.name, acc=run["acc"], comp=run["comp"])

    try:
        work_off(missing, processes=settings.processes, on_steps=progress.advance, on_done=show)
    except KeyboardInterrupt:
        kept = sum(job.kept() is not None for job in jobs)
        progress.note(
            f"stopped: {kept} of {len(jobs)} are kept in {folder / STUDENTS}; "
            "the same command goes on with the others"
        )
        raise


def _result(settings: AblationSettings, jobs: Sequence[Job]) -> dict[str, Any]:
    found = [_run(job) for job in jobs]
    runs = [run for run in found if run["variant"] != TEACHER]
    others = [name for name in settings.variants if name != AGAINST]
    compared = others if AGAINST in settings.variants else []
    return {
        "rows": [summary(variant, runs) for variant in settings.variants],
        "paired": [paired(variant, AGAINST, runs) for variant in compared],
        "teacher": summary(TEACHER, found),
        "runs": runs,
    }


def _run(job: Job) -> dict[str, Any]:
    kept = job.kept()
    assert kept is not None, job.name
    return {
        "variant": job.trial.variant,
        "seed": job.trial.seed,
        **kept["score"],
        "clipped": kept["clipped"],
        "seconds": kept["seconds"],
    }


def _report(
    plain: Mapping[str, Any], result: Mapping[str, Any], folder: Path, *, before: bool
) -> Report:
    return Report(
        settings=plain,
        result=result,
        files=[folder / "run.json"],
        tables=tables(result),
        notes=[
            "the teacher's own row counts the pixels that it vouches for, the others all",
            *([f"{folder} is finished: nothing was done"] if before else []),
        ],
        finished_before=before,
    )
