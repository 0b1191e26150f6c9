"""`bench ablation`: does the teacher's confidence help? Table III of the paper, reproduced.

Students learn from a teacher that errs where its confidence is low, with and without the parts of
the loss that use the confidence, and are scored against the ground truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.benchmarks.ablation.score_tables import paired, summary, tables
from distill3r_core.benchmarks.ablation.student_trial import Trial
from distill3r_core.benchmarks.ablation.trial_runs import TrialRun, run_trials
from distill3r_core.models.families import StudentSize, preset_spec, train_presets
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.stages.benchmark.result_folder import claim_folder
from distill3r_core.training.settings import Count, LossSettings, TrainSettings

Variant = Literal["labels-only", "no-weighting", "full", "student-confidence", "planar"]
VARIANTS: tuple[Variant, ...] = ("labels-only", "no-weighting", "full", "student-confidence")
AGAINST = "full"  # the others are compared with it, seed by seed
TEACHER = "teacher"
STUDENTS = "students"  # folder of the finished trials


@dataclass(frozen=True, config=config.STRICT)
class AblationSettings:
    """Settings of the ablation.

    Raises:
        ConfigError: `model` or `loss` has unknown keys or invalid values.
    """

    seeds: Count = 3
    seed: Annotated[int, Field(ge=0)] = 0  # the first of them
    # Names of shipped configurations `ablation-<name>`.
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = VARIANTS
    steps: Count = 600
    batch: Count = 1
    views: Annotated[int, Field(ge=2)] = 8
    size: StudentSize = (84, 112)
    scenes: Count = 4
    frames: Count = 48  # of each scene
    every: Annotated[int, Field(ge=2)] = 6  # every n-th frame is held out
    lr: Annotated[float, Field(gt=0)] = 1.5e-3
    processes: Count = 2  # of one thread each
    output: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)  # changes to the tiny student
    loss: dict[str, Any] = field(default_factory=dict)  # changes to the loss of every variant

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
        preset_spec("tiny", self.model, within="model")
        _loss_of(AGAINST, self.loss)
        return self


def bench_ablation(
    settings: AblationSettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Train a student with every loss from every seed, and score it against the ground truth.

    The outcome of each student is kept as soon as it is finished: after an interruption the same
    call continues with the others.

    Args:
        overwrite: Replace another result in the chosen folder.
        progress: Receives the optimizer steps.

    Raises:
        ConflictError: The chosen folder holds another result.
        KeyboardInterrupt: The run was interrupted; the finished students are kept.
    """
    losses = {name: _loss_of(name, settings.loss) for name in settings.variants}
    folder = claim_folder(
        "ablation",
        config.as_plain(settings),
        chosen=settings.output,
        overwrite=overwrite,
        resumable=True,
        ignored=("output", "processes"),
    )
    if folder.finished:
        result = folder.read()
    else:
        students = folder.folder / STUDENTS
        runs = [  # seed by seed, so that an early end leaves whole comparisons
            TrialRun(_trial(settings, variant, loss, seed), students / f"{variant}-{seed}.json")
            for seed in range(settings.seed, settings.seed + settings.seeds)
            for variant, loss in {**losses, TEACHER: None}.items()
        ]
        _run_missing(runs, settings, students, progress)
        result = _result(settings, runs)
        folder.write(result)
    note = "the teacher's own row counts its valid pixels, the others all"
    return folder.report(result, tables=tables(result), notes=[note])


def _loss_of(variant: str, changes: Mapping[str, Any]) -> LossSettings:
    """The loss of a variant, as shipped but for some changes."""
    shipped = config.resolve(
        TrainSettings, section="train", config=f"ablation-{variant}", presets=train_presets()
    ).loss
    values = config.merge(config.as_plain(shipped), changes)
    return config.validate(LossSettings, values, source="settings", within="loss")


def _trial(settings: AblationSettings, variant: str, loss: LossSettings | None, seed: int) -> Trial:
    return Trial(
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


def _run_missing(
    runs: Sequence[TrialRun], settings: AblationSettings, students: Path, progress: Progress
) -> None:
    """Run the trials that are not finished."""
    missing = [run for run in runs if run.outcome() is None]
    if len(missing) < len(runs):
        progress.note(f"{len(runs) - len(missing)} of {len(runs)} are there already")
    steps = settings.steps * sum(run.trial.loss is not None for run in missing)
    progress.begin("ablation", total=steps, unit="steps")

    def show(run: TrialRun) -> None:
        figures = _figures(run)
        progress.advance(0, last=run.name, acc=figures["acc"], comp=figures["comp"])

    try:
        run_trials(
            missing, processes=settings.processes, on_steps=progress.advance, on_finished=show
        )
    except KeyboardInterrupt:
        kept = sum(run.outcome() is not None for run in runs)
        progress.note(
            f"stopped: {kept} of {len(runs)} are kept in {students}; "
            "the same command continues with the others"
        )
        raise


def _result(settings: AblationSettings, runs: Sequence[TrialRun]) -> dict[str, Any]:
    figures = [_figures(run) for run in runs]
    students = [each for each in figures if each["variant"] != TEACHER]
    others = [name for name in settings.variants if name != AGAINST]
    compared = others if AGAINST in settings.variants else []
    return {
        "rows": [summary(variant, students) for variant in settings.variants],
        "paired": [paired(variant, AGAINST, students) for variant in compared],
        "teacher": summary(TEACHER, figures),
        "runs": students,
    }


def _figures(run: TrialRun) -> dict[str, Any]:
    outcome = run.outcome()
    assert outcome is not None, run.name
    return {
        "variant": run.trial.variant,
        "seed": run.trial.seed,
        **outcome["score"],
        "clipped": outcome["clipped"],
        "seconds": outcome["seconds"],
    }
