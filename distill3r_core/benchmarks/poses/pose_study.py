"""`bench ablation --study poses`: trainings that differ in what might limit a student's poses.

Each cell is a run of `train` on a cache, and a result of `eval --protocol held-out` on the frames
that it has held out: poses as the student gives them, and as image alignment refines them.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.benchmarks.cell_results import (
    StoredOutcome,
    by_baseline,
    compared,
    differences,
    each_once,
    keep_study,
    kept_outcomes,
    moments,
    number_of_seeds,
    shared_figures,
    shown_moments,
    tenths,
)
from distill3r_core.benchmarks.poses.pose_cells import (
    AGAINST,
    CELLS,
    COMPARED,
    STUDY,
    CellName,
)
from distill3r_core.cache.store import TeacherCache
from distill3r_core.errors import ConfigError
from distill3r_core.io.checksums import bytes_hash
from distill3r_core.models.families import preset_spec, train_presets
from distill3r_core.report import Progress, Report, Silent, Table, duration
from distill3r_core.stages.evaluate import EvalSettings, evaluate
from distill3r_core.stages.evaluate.evaluate_models import RESULT_FORM
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.stages.train.caches import open_caches
from distill3r_core.stages.train.run_folder import identity_of
from distill3r_core.training import checkpoints, metrics_log
from distill3r_core.training.metrics_log import read_metrics
from distill3r_core.training.settings import Count

# Name here: the protocol's metric, and whether it is of poses as the student gives them.
_FIGURES: Mapping[str, tuple[str, bool]] = {
    "rotation": ("rotation_median", True),
    "auc": ("auc_30", True),
    "rotation_refined": ("rotation_median", False),
    "auc_refined": ("auc_30", False),
    "fused": ("fused", False),
    "shape": ("fused_true_poses", False),
    "abs_rel": ("abs_rel", False),
    "scale": ("scale_norm", False),
    "scale_spread": ("scale_log_spread_views", False),
    "acc": ("acc", False),
    "comp": ("comp", False),
}


@dataclass(frozen=True, config=config.STRICT)
class PoseStudySettings:
    """Settings of the study."""

    cache: Path = Path("caches/teacher")
    preset: Literal["tiny", "small"] = "tiny"
    cells: Annotated[tuple[CellName, ...], Field(min_length=1)] = STUDY
    seeds: Count = 3
    seed: Annotated[int, Field(ge=0)] = 0  # the first of them
    steps: Count = 800
    output: Path | None = None

    @model_validator(mode="after")
    def _each_cell_once(self) -> "PoseStudySettings":
        each_once(self.cells)
        return self


def bench_poses(
    settings: PoseStudySettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Train a student of a cache for every cell and seed; score all on its held-out frames.

    On one thread. What is finished is kept, and runs are resumed: after an interruption the same
    call continues.

    Args:
        overwrite: Replace another result in the chosen folder.
        progress: Receives the progress of each stage, and from the second training on how long all
            of it will take.

    Raises:
        ConflictError: The chosen folder holds another result.
        ConfigError: The samples of the cache differ in size.
        InputMissingError: There is no such cache.
        KeyboardInterrupt: The study was interrupted; what is done is kept.
    """
    header = TeacherCache(settings.cache).header
    if header.size == "auto":
        raise ConfigError(
            f"{settings.cache}: its samples differ in size",
            hint="make one with `distill3r cache --size HxW`",
        )
    size = header.size
    trials = [
        _trial(settings, size, cell, seed)
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for cell in settings.cells
    ]
    folder, result = keep_study(
        "poses",
        settings,
        lambda place: _run(settings, place, trials, progress),
        inputs=_hash([header.identity, *(trial.identity for trial in trials)]),
        overwrite=overwrite,
    )
    notes = [
        "rotation: median over pairs of held-out frames, AUC over the same pairs; refined: by "
        "image alignment on the student's depth",
        "the last step of each training is scored: `best` is chosen on the same held-out frames",
    ]
    return folder.report(result, tables=_tables(result), notes=notes)


@plain_dataclass(frozen=True)
class _PoseTrial:
    """A training of the study.

    Args:
        settings: Those of `train`, without the folder of the run.
        identity: What the run depends on: a version whose preset has other values does not take
            what is there for its own.
    """

    cell: CellName
    seed: int
    settings: TrainSettings
    identity: str

    @property
    def steps(self) -> int:
        assert self.settings.max_steps is not None
        return self.settings.max_steps

    def folder(self, study: Path) -> Path:
        """Where its run and result are."""
        return study / f"{self.cell}-{self.seed}-{self.identity[:8]}"

    def run(self, study: Path, progress: Progress) -> dict[str, Any]:
        """Train, or go on, and score the last checkpoint on held-out frames."""
        run = self.folder(study) / "run"
        train(replace(self.settings, output=run), resume=True, progress=progress)
        scored = evaluate(
            EvalSettings(
                models=(str(run / checkpoints.FOLDER / checkpoints.LAST),),
                protocol="held-out",
                colmap=False,
                device="cpu",
                output=run.parent / "eval",
            ),
            progress=progress,
        ).result
        (own,) = scored["without_refinement"].values()
        return {
            **{
                name: (own if is_own else scored["metrics"])[metric]
                for name, (metric, is_own) in _FIGURES.items()
            },
            "identity_rotation": scored["baselines"]["identity_poses"]["rotation_median"],
            "views": scored["views"],
            "curve": tenths(
                [row["loss"] for row in read_metrics(run / metrics_log.FILE) if "loss" in row]
            ),
        }


def _run(
    settings: PoseStudySettings, folder: Path, trials: Sequence[_PoseTrial], progress: Progress
) -> dict[str, Any]:
    stored = [
        StoredOutcome(
            trial.folder(folder) / "outcome.json", {"run": trial.identity, "form": RESULT_FORM}
        )
        for trial in trials
    ]
    pending = [
        (trial, kept) for trial, kept in zip(trials, stored, strict=True) if kept.read() is None
    ]
    left, done = sum(trial.steps for trial, _ in pending), 0
    started = time.monotonic()
    for number, (trial, kept) in enumerate(pending, 1):
        if done:
            rest = duration((time.monotonic() - started) / done * left)
            progress.note(f"about {rest} to go")
        progress.note(f"{trial.cell}, seed {trial.seed}: {number} of {len(pending)}")
        kept.write(trial.run(folder, progress))
        left, done = left - trial.steps, done + trial.steps
    runs = kept_outcomes([(trial.cell, trial.seed) for trial in trials], stored)
    return {
        "rows": [_row(cell, runs) for cell in settings.cells],
        "paired": [
            differences(cell, against, runs, shared_figures(runs, _FIGURES, cell, against))
            for cell, against in compared(settings.cells, AGAINST, COMPARED)
        ],
        "views": runs[0]["views"],
        "runs": runs,
    }


def _trial(
    settings: PoseStudySettings, size: tuple[int, int], cell: CellName, seed: int
) -> _PoseTrial:
    chosen = CELLS[cell]
    own = {
        "preset": settings.preset,
        "cache": settings.cache,
        "data": {"size": size},
        "max_steps": settings.steps * chosen.times,
        # The rate falls to the end of these steps.
        "schedule": {"steps": settings.steps * chosen.times},
        "seed": seed,
        "device": "cpu",
        "encoder_weights": "none",
    }
    recipe = config.merge(chosen.recipe, _wider_heads(settings.preset, chosen.heads))
    recipe = config.merge(recipe, _more_views(settings.preset, chosen.views))
    plain = config.merge(config.merge(train_presets()[settings.preset], own), recipe)
    run = config.validate(TrainSettings, plain, source="the study's settings")
    cache = open_caches(run)
    (member,) = cache.members
    learned = [member.cache.header.identity, identity_of(run, cache, processes=1)]
    return _PoseTrial(cell, seed, run, _hash(learned))


def _more_views(preset: str, factor: int) -> dict[str, Any]:
    """Samples of so many times the views, and as many images a step."""
    if factor == 1:
        return {}
    data = train_presets()[preset]["data"]
    return {"data": {"views": factor * data["views"], "batch": data["batch"] // factor}}


def _hash(plain: Any) -> str:
    return bytes_hash(json.dumps(plain, sort_keys=True).encode())


def _wider_heads(preset: str, factor: int) -> dict[str, Any]:
    if factor == 1:
        return {}
    heads = preset_spec(preset).as_plain()["heads"]
    wider = {
        "features": factor * heads["features"],
        "layers": [factor * channels for channels in heads["layers"]],
        "tail": factor * heads["tail"],
    }
    return {"model": {"heads": wider}}


def _row(cell: CellName, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mine = [run for run in runs if run["cell"] == cell]
    return {
        "cell": cell,
        "summary": CELLS[cell].summary,
        "seeds": len(mine),
        **moments(
            {name: [run[name] for run in mine] for name in shared_figures(runs, _FIGURES, cell)}
        ),
    }


# Heading, figure and form of the columns; lengths are in cm, as `eval` gives them.
_POSES = (
    ("rotation", "rotation", "{:.1f}°"),
    ("AUC@30", "auc", "{:.2f}"),
    ("refined", "rotation_refined", "{:.1f}°"),
    ("AUC@30", "auc_refined", "{:.2f}"),
    ("Acc cm", "acc", "{:.1f}"),
)
_SHAPE = (
    ("fused cm", "fused", "{:.1f}"),
    ("shape cm", "shape", "{:.1f}"),
    ("AbsRel", "abs_rel", "{:.3f}"),
    ("m a unit", "scale", "{:.2f}"),
    ("its spread", "scale_spread", "{:.2f}"),
)


def _tables(result: Mapping[str, Any]) -> list[Table]:
    seeds = number_of_seeds(result["rows"])
    tables = []
    paired = by_baseline(result["paired"])
    for title, rows in (
        (f"{result['views']} held-out frames, {seeds}", result["rows"]),
        *((f"More than {cell} from the same seed, {seeds}", rows) for cell, rows in paired.items()),
    ):
        for columns in (_POSES, _SHAPE):
            headings = ("cell", *(heading for heading, *_ in columns))
            cells = (
                (row["cell"], *(shown_moments(row, name, form) for _, name, form in columns))
                for row in rows
            )
            tables.append(Table(title, headings, tuple(cells)))
    identity = f"{result['runs'][0]['identity_rotation']:.1f}°"
    first = tables[0]
    beside = ("identity poses", identity, *[""] * (len(first.columns) - 2))
    return [replace(first, rows=(*first.rows, beside)), *tables[1:]]
