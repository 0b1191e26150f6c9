"""`bench ablation --study pairs`: start, features, parts and truth of pair students, compared.

The teacher is a pair network that is trained in place on the exact maps of rendered rooms; its own
error stands in the table. Its students learn from it as the paper's do.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
    last_losses,
    moments,
    number_of_seeds,
)
from distill3r_core.benchmarks.pairs.pair_cells import AGAINST, CELLS, COMPARED, STUDY, CellName
from distill3r_core.benchmarks.pairs.pair_data import PairRooms
from distill3r_core.benchmarks.pairs.pair_trial import (
    PairSizes,
    run_pair_trial,
    student_step_seconds,
    teacher_step_seconds,
    train_pair_teacher,
)
from distill3r_core.models.families import StudentSize
from distill3r_core.report import Progress, Report, Silent, Table, duration
from distill3r_core.training.settings import Count

TEACHER_FILE = "teacher.safetensors"
_CENTIMETERS = 100.0


@dataclass(frozen=True, config=config.STRICT)
class PairStudySettings:
    """Settings of the study."""

    cells: Annotated[tuple[CellName, ...], Field(min_length=1)] = STUDY
    seeds: Count = 3
    seed: Annotated[int, Field(ge=0)] = 0  # the first of them
    steps: Count = 600  # of every student
    teacher_steps: Count = 3000
    batch: Count = 4  # pairs
    size: StudentSize = (48, 64)
    scenes: Count = 8  # rendered rooms
    frames: Count = 36  # of each scene
    every: Annotated[int, Field(ge=2)] = 6  # every n-th frame is held out
    lr: Annotated[float, Field(gt=0)] = 1e-3
    output: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> "PairStudySettings":
        if -(-self.frames // self.every) < 2:
            raise ValueError(f"{self.frames} frames hold out one of each room; pairs take two")
        each_once(self.cells)
        for cell in self.cells:
            first = CELLS[cell].encoder_of
            if first is not None and first not in self.cells[: self.cells.index(cell)]:
                raise ValueError(f"cells: {cell} begins with the encoder of {first}: name it first")
        return self


def bench_pairs(
    settings: PairStudySettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Train the teacher, then a student for every cell and seed; score all on held-out pairs.

    On one thread. What is finished is kept: after an interruption the same call continues.

    Args:
        overwrite: Replace another result in the chosen folder.
        progress: Receives how long all of it will take, before it starts, and the optimizer steps.

    Raises:
        ConflictError: The chosen folder holds another result.
        KeyboardInterrupt: The run was interrupted; finished networks are kept.
    """
    folder, result = keep_study(
        "pairs", settings, lambda place: _run(settings, place, progress), overwrite=overwrite
    )
    notes = [
        "errors are distances to the true points after one scale: of a pair, or of a view",
        "encoders start from scratch, as no weights are downloaded; the frozen one is that of "
        "`features` of its seed, whose training is not counted",
    ]
    return folder.report(result, tables=_tables(result), notes=notes)


def _run(settings: PairStudySettings, folder: Path, progress: Progress) -> dict[str, Any]:
    sizes = PairSizes(
        settings.steps, settings.teacher_steps, settings.batch, settings.lr, settings.size
    )
    rooms = PairRooms.rendered(
        settings.scenes, settings.frames, settings.size, every=settings.every
    )
    plain = config.as_plain(settings)
    shared = {name: plain[name] for name in ("batch", "size", "scenes", "frames", "every", "lr")}
    teacher = StoredOutcome(
        folder / "teacher.json", {**shared, "teacher_steps": settings.teacher_steps}
    )
    own = {**teacher.identity, "steps": settings.steps}
    begun_with = {CELLS[cell].encoder_of for cell in settings.cells}
    trials: list[tuple[CellName, int, StoredOutcome]] = [
        (cell, seed, StoredOutcome(folder / f"{cell}-{seed}.json", own | _begun(cell)))
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for cell in settings.cells
    ]
    weights = folder / TEACHER_FILE
    known = teacher.read() is not None and weights.is_file()

    def is_there(trial: tuple[CellName, int, StoredOutcome]) -> bool:
        cell, seed, stored = trial
        kept = cell not in begun_with or _weights(folder, cell, seed).is_file()
        return known and kept and stored.read() is not None

    missing = [trial for trial in trials if not is_there(trial)]
    total = (0 if known else settings.teacher_steps) + settings.steps * len(missing)
    if total:
        left = {cell for cell, *_ in missing}
        step = {
            cell: student_step_seconds(cell, rooms, sizes)
            for cell in settings.cells
            if cell in left
        }
        seconds = settings.steps * sum(step[cell] for cell, *_ in missing)
        if not known:
            seconds += settings.teacher_steps * teacher_step_seconds(rooms, sizes)
        progress.note(f"about {duration(seconds)} of training, on one thread")
    progress.begin("pairs", total=total, unit="steps")
    if not known:
        teacher.write(train_pair_teacher(rooms, sizes, weights, progress.advance).as_plain())
    for cell, seed, stored in missing:
        first = CELLS[cell].encoder_of
        outcome = run_pair_trial(
            cell,
            seed,
            rooms,
            sizes,
            weights,
            progress.advance,
            encoder_path=None if first is None else _weights(folder, first, seed),
            kept_at=_weights(folder, cell, seed) if cell in begun_with else None,
        )
        stored.write(outcome.as_plain())
        progress.advance(0, last=f"{cell}, seed {seed}", cm=_CENTIMETERS * outcome.global_error)
    runs = kept_outcomes(
        [(cell, seed) for cell, seed, _ in trials], [stored for *_, stored in trials]
    )
    of_teacher = teacher.read()
    assert of_teacher is not None, "it was written"
    return {
        "rows": [_row(cell, runs) for cell in settings.cells],
        "paired": [
            differences(cell, against, runs, FIGURES)
            for cell, against in compared(settings.cells, AGAINST, COMPARED)
        ],
        "teacher": of_teacher,
        "runs": runs,
    }


def _begun(cell: CellName) -> dict[str, Any]:
    """What the outcome of a cell depends on beside the settings."""
    first = CELLS[cell].encoder_of
    return {} if first is None else {"encoder_of": first}


def _weights(folder: Path, cell: CellName, seed: int) -> Path:
    """The weights of a student that another one begins with."""
    return folder / f"{cell}-{seed}.safetensors"


FIGURES = ("global_error", "local_error")


def _row(cell: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [run for run in runs if run["cell"] == cell]
    return {
        "cell": cell,
        "seeds": len(mine),
        "parameters": mine[0]["parameters"],
        "seconds": statistics.fmean(run["seconds"] for run in mine),
        "curve": [
            statistics.fmean(tenth) for tenth in zip(*(run["curve"] for run in mine), strict=True)
        ],
        **moments({name: [run[name] for run in mine] for name in FIGURES}),
    }


def _tables(result: Mapping[str, Any]) -> list[Table]:
    teacher, rows = result["teacher"], result["rows"]
    text = [
        (
            row["cell"],
            CELLS[row["cell"]].summary,
            f"{row['parameters'] / 1e6:.2f}",
            *(_shown(row, name, "{:.1f}") for name in FIGURES),
            last_losses(row["curve"]),
            f"{row['seconds']:.0f}",
        )
        for row in rows
    ]
    of_teacher = (
        "teacher",
        "a pair network on exact maps",
        f"{teacher['parameters'] / 1e6:.2f}",
        *(f"{_CENTIMETERS * teacher[name]:.1f}" for name in FIGURES),
        last_losses(teacher["curve"]),
        f"{teacher['seconds']:.0f}",
    )
    headings = ("cell", "", "M", "global cm", "local cm", "loss, last tenths", "CPU s")
    seeds = number_of_seeds(rows)
    found = [Table(f"Held-out pairs against the truth, {seeds}", headings, (*text, of_teacher))]
    for against, paired in by_baseline(result["paired"]).items():
        differences = tuple(
            (row["cell"], *(_shown(row, name, "{:+.1f}") for name in FIGURES)) for row in paired
        )
        title = f"More than {against} from the same seed, {seeds}"
        found.append(Table(title, ("cell", "global cm", "local cm"), differences))
    return found


def _shown(row: Mapping[str, Any], name: str, form: str) -> str:
    text, spread = form.format(_CENTIMETERS * row["mean"][name]), row["spread"][name]
    return text if spread is None else f"{text} ± {_CENTIMETERS * spread:.1f}"
