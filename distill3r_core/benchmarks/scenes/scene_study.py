"""`bench ablation --study scene`: networks, attention and pretraining of scene students, compared.

Each cell is a run of `train` on one scene, and a result of `eval --protocol localization` on the
frames that it has held out. The scene is the user's own, by its cache, or a rendered room.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator
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
    parts_name,
    shared_figures,
    shown_moments,
)
from distill3r_core.benchmarks.scenes.scene_cells import (
    AGAINST,
    CELLS,
    COMPARED,
    PRETRAINED,
    STUDY,
    CellName,
)
from distill3r_core.benchmarks.scenes.scene_data import FIRST_ROOM, RenderedRooms
from distill3r_core.benchmarks.scenes.scene_trial import FIGURES, SceneTrial
from distill3r_core.cache.store import TeacherCache
from distill3r_core.errors import ConfigError
from distill3r_core.models.families import StudentSize
from distill3r_core.report import Progress, Report, Silent, Table, duration
from distill3r_core.stages.evaluate.evaluate_models import RESULT_FORM
from distill3r_core.training.settings import Count

_FORM = 2  # what an outcome holds, and how students are trained; others are made again


@dataclass(frozen=True, config=config.STRICT)
class SceneStudySettings:
    """Settings of the study."""

    cells: Annotated[tuple[CellName, ...], Field(min_length=1)] = STUDY
    seeds: Count = 3
    seed: Annotated[int, Field(ge=0)] = 0  # the first of them
    steps: Count = 700  # of every student but cnn, of eight images
    cnn_steps: Count = 45  # of cnn, which is trained from the first seed alone
    pretrain_steps: Count = 700
    cache: Path | None = None  # of the scene; None: a rendered room
    # Of the cache, as `train --scene`; empty: the only one.
    scene: Annotated[
        tuple[str, ...], BeforeValidator(lambda name: (name,) if isinstance(name, str) else name)
    ] = ()
    scenes: Count = 4  # rendered rooms to pretrain on
    frames: Annotated[int, Field(ge=5)] = 100  # of each rendered room
    size: StudentSize = (112, 154)  # of rendered rooms
    output: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> "SceneStudySettings":
        each_once(self.cells)
        if self.scene and self.cache is None:
            raise ValueError("scene: the rendered room is the only one; it goes with cache")
        return self


def bench_scenes(
    settings: SceneStudySettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Train a student of one scene for every cell and seed; score all on its held-out frames.

    On one thread. What is finished is kept, and runs are resumed: after an interruption the same
    call continues.

    Args:
        overwrite: Replace another result in the chosen folder.
        progress: Receives how long all of it will take, before it starts, and the progress of each
            stage.

    Raises:
        ConflictError: The chosen folder holds another result.
        ConfigError: The cache has several scenes, and none is named.
        InputMissingError: There is no such cache.
        KeyboardInterrupt: The study was interrupted; what is done is kept.
    """
    scene = "room" if settings.cache is None else TeacherCache(settings.cache).header.identity
    inputs = f"{scene}, form {_FORM}"
    parts = _parts_of(settings, inputs)
    folder, result = keep_study(
        "scene",
        settings,
        lambda place: _run(settings, place / parts, progress),
        inputs=inputs,
        overwrite=overwrite,
    )
    notes = [
        "medians over held-out frames; poses by PnP with RANSAC on predicted coordinates",
        "encoders start from scratch, as no weights are downloaded; `pretrained` has learned "
        f"{settings.scenes} other rooms",
        "the last step of each training is scored: `best` is chosen on the same held-out frames",
    ]
    return folder.report(result, tables=_tables(result), notes=notes)


def _parts_of(settings: SceneStudySettings, inputs: str) -> str:
    """Folder of rooms, runs and outcomes: another one for each length, scene and size."""
    left_out = ("cells", "seeds", "seed", "output")
    shared = {key: value for key, value in config.as_plain(settings).items() if key not in left_out}
    return parts_name(shared, inputs)


@plain_dataclass(frozen=True)
class _StudiedScene:
    """What the students of a study learn."""

    cache: Path
    names: tuple[str, ...]  # as `train --scene` takes them; empty: the only one
    size: tuple[int, int]


def _run(settings: SceneStudySettings, folder: Path, progress: Progress) -> dict[str, Any]:
    scene = _scene(settings, folder, progress)
    trials = [
        _trial(settings, folder, scene, cell, seed)
        for seed in range(settings.seed, settings.seed + settings.seeds)
        for cell in settings.cells
        if seed == settings.seed or not CELLS[cell].once
    ]
    outcomes = [
        StoredOutcome(trial.folder / "outcome.json", _identity(settings, trial)) for trial in trials
    ]
    missing = [
        (trial, stored)
        for trial, stored in zip(trials, outcomes, strict=True)
        if stored.read() is None
    ]
    before = _pretrainings(settings, folder, [trial for trial, _ in missing], progress)
    pending = [*before, *(trial for trial, _ in missing)]
    timed = {cell: trial.time_an_image() for cell, trial in {it.cell: it for it in pending}.items()}
    seconds = sum(timed[trial.cell].clock * trial.images for trial in pending)
    progress.note(f"about {duration(seconds)} of training, on one thread")
    for trial in before:
        progress.note(f"pretraining on {len(trial.scene)} rooms, seed {trial.seed}")
        trial.train(progress)
    for number, (trial, stored) in enumerate(missing, 1):
        progress.note(f"{trial.cell}, seed {trial.seed}: {number} of {len(missing)}")
        stored.write({**trial.run(progress), "seconds_an_image": timed[trial.cell].cpu})
    runs = kept_outcomes([(trial.cell, trial.seed) for trial in trials], outcomes)
    return {
        "rows": [_row(cell, runs) for cell in settings.cells],
        "paired": [
            differences(cell, against, runs, shared_figures(runs, FIGURES, cell, against))
            for cell, against in compared(settings.cells, AGAINST, COMPARED)
        ],
        "nearest": runs[0]["nearest"],
        "views": runs[0]["views"],
        "runs": runs,
    }


def _scene(settings: SceneStudySettings, folder: Path, progress: Progress) -> _StudiedScene:
    if settings.cache is None:
        rooms = range(FIRST_ROOM, FIRST_ROOM + 1)
        room = RenderedRooms(folder / "room", rooms, settings.frames, settings.size)
        return _StudiedScene(room.cache(progress), room.names, settings.size)
    size = TeacherCache(settings.cache).header.size
    if size == "auto":
        raise ConfigError(
            f"{settings.cache}: its samples differ in size",
            hint="make one with `distill3r cache --size HxW`",
        )
    return _StudiedScene(settings.cache, settings.scene, size)


def _trial(
    settings: SceneStudySettings, folder: Path, scene: _StudiedScene, cell: CellName, seed: int
) -> SceneTrial:
    return SceneTrial(
        cell=cell,
        seed=seed,
        steps=settings.cnn_steps if CELLS[cell].once else settings.steps,
        folder=folder / f"{cell}-{seed}",
        cache=scene.cache,
        scene=scene.names,
        size=scene.size,
        start=_pretrained(folder, seed) / "run" if CELLS[cell].pretrained else None,
    )


def _pretrained(folder: Path, seed: int) -> Path:
    return folder / f"pretraining-{seed}"


def _pretrainings(
    settings: SceneStudySettings, folder: Path, trials: Sequence[SceneTrial], progress: Progress
) -> list[SceneTrial]:
    """The trainings on other rooms that these trials start from."""
    seeds = sorted({trial.seed for trial in trials if trial.start is not None})
    if not seeds:
        return []
    first = FIRST_ROOM + 1
    rooms = RenderedRooms(
        folder / "other-rooms",
        range(first, first + settings.scenes),
        settings.frames,
        trials[0].size,
    )
    cache = rooms.cache(progress)
    return [
        SceneTrial(
            cell=PRETRAINED,
            seed=seed,
            steps=settings.pretrain_steps,
            folder=_pretrained(folder, seed),
            cache=cache,
            scene=rooms.names,
            size=trials[0].size,
        )
        for seed in seeds
    ]


def _identity(settings: SceneStudySettings, trial: SceneTrial) -> dict[str, Any]:
    """What the outcome of a trial depends on."""
    cache = TeacherCache(trial.cache).header.identity
    own = {
        "steps": trial.steps,
        "cache": cache,
        "scene": list(trial.scene),
        "form": RESULT_FORM,
    }
    if trial.start is None:
        return own
    return {
        **own,
        "pretrain_steps": settings.pretrain_steps,
        "scenes": settings.scenes,
        "frames": settings.frames,
    }


def _row(cell: CellName, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    mine = [run for run in runs if run["cell"] == cell]
    return {
        "cell": cell,
        "summary": CELLS[cell].summary,
        "seeds": len(mine),
        "parameters": mine[0]["parameters"],
        "megabytes": mine[0]["megabytes"],
        "images": mine[0]["images"],
        "plateau": "not to the plateau" if CELLS[cell].once else None,
        **{
            name: [
                statistics.fmean(tenth) for tenth in zip(*(run[name] for run in mine), strict=True)
            ]
            for name in ("curve", "held_out_curve")
        },
        "seconds_an_image": statistics.fmean(run["seconds_an_image"] for run in mine),
        **moments(
            {name: [run[name] for run in mine] for name in shared_figures(runs, FIGURES, cell)}
        ),
    }


# Heading, figure and form of the columns; lengths are in cm, as `eval` gives them.
_COLUMNS = (
    ("location cm", "location", "{:.1f}"),
    ("rotation", "rotation", "{:.1f}°"),
    ("5 cm, 5°", "near", "{:.2f}"),
    ("points cm", "coordinates", "{:.1f}"),
)
_ERRORS = (("MSE", "mse", "{:.4f}"), ("MSE m²", "mse_metric", "{:.3f}"))


def _tables(result: Mapping[str, Any]) -> list[Table]:
    rows, nearest = result["rows"], result["nearest"]
    seeds = number_of_seeds(rows)
    headings = ("cell", *(heading for heading, *_ in _COLUMNS))
    beside = tuple(
        "" if (it := nearest[name]) is None else form.format(it) for _, name, form in _COLUMNS
    )
    cost = tuple(
        (
            row["cell"],
            *(shown_moments(row, *figure) for _, *figure in _ERRORS),
            f"{row['megabytes']:.1f}",
            f"{row['seconds_an_image']:.3f}",
        )
        for row in rows
    )
    course = tuple(
        (
            row["cell"],
            ", ".join(filter(None, (str(row["images"]), row["plateau"]))),
            last_losses(row["curve"]),
            last_losses(row["held_out_curve"]),
        )
        for row in rows
    )
    costs = ("cell", *(heading for heading, *_ in _ERRORS), "MB", "CPU s an image")
    courses = ("cell", "images", "loss, last tenths", "held out, last tenths")
    found = [
        Table(
            f"{result['views']} held-out frames, {seeds}",
            headings,
            (*_cells(rows), ("nearest frame", *beside)),
        ),
        Table("Error (MSE: squared radii of the scene) and cost", costs, cost),
        Table("Course of the training", courses, course),
    ]
    for against, paired in by_baseline(result["paired"]).items():
        title = f"More than {against} from the same seed, {seeds}"
        found.append(Table(title, headings, tuple(_cells(paired))))
    return found


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (row["cell"], *(shown_moments(row, name, form) for _, name, form in _COLUMNS))
        for row in rows
    ]
