"""`bench ablation`: does the teacher's confidence help? The paper's Table III, measured.

Students learn from a teacher that errs where it is unsure, with and without the parts of the loss
that use its confidence, and are scored against the truth, which the teacher does not know.
"""

import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config, paths, profiling
from distill3r_core.report import Progress, Report, Silent, Table
from distill3r_core.stages.bench.ablation.student import Trial, run_trial, teacher_score
from distill3r_core.stages.outputs import claim, read_record, write_record
from distill3r_core.training.settings import PRESETS, LossSettings, TrainSettings

VARIANTS = ("labels-only", "no-weighting", "full", "student-confidence")
FIGURES = ("acc", "comp", "scale_spread", "global_error")
HEADINGS = ("loss", "Acc cm", "Comp cm", "scale spread %", "global cm")
_AS_SHOWN = {"acc": 100.0, "comp": 100.0, "scale_spread": 100.0, "global_error": 100.0}

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=config.STRICT)
class AblationSettings:
    """What is compared, and how much of it."""

    seeds: Count = 3
    seed: Annotated[int, Field(ge=0)] = 0  # the first of them
    variants: tuple[str, ...] = VARIANTS  # shipped configurations `ablation-<name>`
    steps: Count = 600
    batch: Count = 1
    views: Count = 8
    size: tuple[int, int] = (84, 112)
    scenes: Count = 4
    frames: Count = 48  # of each scene
    every: Count = 6  # of them is held out, between those that are learned from
    lr: float = 1.5e-3
    processes: Count = 2  # of one thread each
    output: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)  # changes to the tiny student


def bench_ablation(
    settings: AblationSettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Train every variant from every seed, score it against the truth, and say what came out.

    Args:
        settings: What is compared.
        overwrite: Replace another result in the folder that was named.
        progress: Where to report to.

    Raises:
        ConfigError: No such variant.
        ConflictError: The folder that was named holds another result.
    """
    plain = config.as_plain(settings)
    identity = {key: plain[key] for key in plain if key not in ("output", "processes")}
    claimed = claim(
        paths.RESULTS / "bench" / "ablation",
        chosen=settings.output,
        identity=identity,
        overwrite=overwrite,
    )
    if claimed.finished:
        found = read_record(claimed.folder)["result"]
        return _report(plain, found, claimed.folder, before=True)
    trials = _trials(settings)
    started = time.monotonic()
    progress.begin("ablation", total=len(trials), unit="students")
    scores: list[dict[str, Any]] = []
    with ProcessPoolExecutor(
        settings.processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    ) as pool:
        waiting = {pool.submit(run_trial, trial): trial for trial in trials}
        for done in as_completed(waiting):
            trial, score = waiting[done], done.result()
            scores.append({"variant": trial.variant, "seed": trial.seed, **asdict(score)})
            progress.advance(**{"last": trial.variant, "acc": score.acc, "comp": score.comp})
    scores.sort(key=lambda row: (settings.variants.index(row["variant"]), row["seed"]))
    result = {
        "rows": [summary(variant, scores) for variant in settings.variants],
        "runs": scores,
        "teacher": asdict(teacher_score(trials[0])),
        "seconds": time.monotonic() - started,
        "machine": profiling.machine(),
    }
    write_record(claimed.folder, identity=identity, result=result)
    return _report(plain, result, claimed.folder, before=False)


def _trials(settings: AblationSettings) -> list[Trial]:
    """Seed by seed, so that an early end leaves whole comparisons."""
    losses = {
        name: config.resolve(
            TrainSettings, section="train", config=f"ablation-{name}", presets=PRESETS
        ).loss
        for name in settings.variants
    }
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [_trial(settings, name, losses[name], seed) for seed in seeds for name in losses]


def _trial(settings: AblationSettings, name: str, loss: LossSettings, seed: int) -> Trial:
    return Trial(
        variant=name,
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


def summary(variant: str, scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sample deviation of a variant's figures over its seeds; deviation null for one."""
    mine = [row for row in scores if row["variant"] == variant]
    values = {name: [row[name] for row in mine] for name in FIGURES}
    return {
        "variant": variant,
        "seeds": len(mine),
        "mean": {name: statistics.fmean(values[name]) for name in FIGURES},
        "spread": {
            name: statistics.stdev(values[name]) if len(mine) > 1 else None for name in FIGURES
        },
    }


def _report(
    plain: Mapping[str, Any], result: Mapping[str, Any], folder: Path, *, before: bool
) -> Report:
    def cell(row: Mapping[str, Any], name: str) -> str:
        mean, spread = row["mean"][name] * _AS_SHOWN[name], row["spread"][name]
        return f"{mean:.2f}" if spread is None else f"{mean:.2f} ± {spread * _AS_SHOWN[name]:.2f}"

    rows = [(row["variant"], *(cell(row, name) for name in FIGURES)) for row in result["rows"]]
    teacher = result["teacher"]
    rows.append(("the teacher itself", *(f"{teacher[n] * _AS_SHOWN[n]:.2f}" for n in FIGURES)))
    seeds = result["rows"][0]["seeds"]
    return Report(
        settings=plain,
        result=result,
        files=[folder / "run.json"],
        tables=[Table(f"Against the truth, held-out views, {seeds} seeds", HEADINGS, tuple(rows))],
        notes=[f"{folder} is finished: nothing was done"] if before else [],
        finished_before=before,
    )
