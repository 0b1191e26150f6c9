"""One student of the scene study: trained by the stage of `train`, scored by that of `eval`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill3r_core.benchmarks.cell_results import CURVE, tenths
from distill3r_core.benchmarks.scenes.scene_cells import CELLS, PRETRAINED, CellName
from distill3r_core.config import merge, validate
from distill3r_core.models import build_student, load_student
from distill3r_core.models.checkpoint import MODEL
from distill3r_core.models.families import train_presets
from distill3r_core.report import Progress
from distill3r_core.stages.evaluate import EvalSettings, evaluate
from distill3r_core.stages.evaluate.evaluate_models import RESULT_FORM
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.stages.train.resolve import complete_model
from distill3r_core.training import checkpoints, metrics_log
from distill3r_core.training.metrics_log import read_metrics
from distill3r_core.types import PointMaps

# Name here: name of the metric of the protocol `localization`.
FIGURES: Mapping[str, str] = {
    "location": "location_median",
    "rotation": "location_rotation_median",
    "near": "location_near",
    "coordinates": "coordinate_median",
    "mse": "coordinate_mse",
    "mse_metric": "coordinate_mse_metric",
}
HELD_OUT = "validation_loss"
_TIMED = 3  # passes, of which the fastest counts
_TIMED_SECONDS = 5.0  # after which no other pass begins


@dataclass(frozen=True)
class PassTime:
    """Seconds of a forward and backward pass for each image.

    Args:
        cpu: Of the processor, on however busy a machine.
        clock: By the clock, as this machine has time for it.
    """

    cpu: float
    clock: float


@dataclass(frozen=True)
class SceneTrial:
    """A training of the study.

    Args:
        folder: Where its run and result are.
        cache: Teacher cache of the scene.
        scene: Names of scenes, as `train --scene`; empty: the only one.
        size: Rows and columns of the cached images.
        start: The run of a pretrained student; None: from scratch.
    """

    cell: CellName
    seed: int
    steps: int
    folder: Path
    cache: Path
    scene: tuple[str, ...]
    size: tuple[int, int]
    start: Path | None = None

    def settings(self) -> TrainSettings:
        """The settings of `train`, whatever a configuration in the current folder says."""
        return _settings(
            self.cell,
            cache=self.cache,
            scene=self.scene,
            max_steps=self.steps,
            seed=self.seed,
            output=self.run_folder,
            start=self.start,
        )

    @property
    def run_folder(self) -> Path:
        """The folder of the training run."""
        return self.folder / "run"

    def train(self, progress: Progress) -> None:
        """Train the student, or go on; a finished run is left as it is."""
        train(self.settings(), resume=True, progress=progress)

    @property
    def scored(self) -> Path:
        """The checkpoint that is scored: the last. `best` is chosen on the frames of the score."""
        return self.run_folder / checkpoints.FOLDER / checkpoints.LAST

    def run(self, progress: Progress) -> dict[str, Any]:
        """Train, or go on, and score the last checkpoint on held-out frames.

        Returns:
            `FIGURES` of the student and of the nearest training frame (None where a baseline has
            none), `parameters`, `megabytes` of its file, `images` that its training saw, `curve`:
            the mean training loss of each tenth of the steps, and `held_out_curve`: the loss of
            held-out frames at each validation, ten or fewer.
        """
        self.train(progress)
        scored = evaluate(
            EvalSettings(
                models=(str(self.scored),),
                protocol="localization",
                colmap=False,
                device="cpu",
                output=self.folder / f"eval-{RESULT_FORM}",
            ),
            progress=progress,
        ).result
        student = load_student(self.scored)
        rows = list(read_metrics(self.run_folder / metrics_log.FILE))
        return {
            **_figures(scored["metrics"]),
            "nearest": _figures(scored["baselines"]["nearest_frame"]),
            "views": scored["views"],
            "parameters": sum(parameter.numel() for parameter in student.parameters()),
            "megabytes": (self.scored / MODEL).stat().st_size / 1e6,
            "images": self.images,
            "curve": tenths([row["loss"] for row in rows if "loss" in row]),
            "held_out_curve": [row[HELD_OUT] for row in rows if row.get(HELD_OUT) is not None],
        }

    def time_an_image(self) -> PassTime:
        """Time of one forward and backward pass of one batch, divided by its images."""
        built = PRETRAINED if CELLS[self.cell].pretrained else self.cell
        student = build_student(CELLS[built].preset, **_settings(built).model)
        settings = self.settings()
        for name in settings.optim.freeze:
            student.get_submodule(name).requires_grad_(False)
        student.train()
        views, batch = settings.data.views or 1, settings.data.batch
        images = torch.rand(batch, views, 3, *self.size)
        cpu: list[float] = []
        clock: list[float] = []
        while len(clock) < _TIMED and sum(clock) < _TIMED_SECONDS:
            started = time.process_time(), time.perf_counter()
            maps = student(images)
            assert isinstance(maps, PointMaps) and maps.points_global is not None
            maps.points_global.square().mean().backward()
            cpu.append(time.process_time() - started[0])
            clock.append(time.perf_counter() - started[1])
        return PassTime(min(cpu) / (batch * views), min(clock) / (batch * views))

    @property
    def images(self) -> int:
        """Images that the training sees, with those that it sees again."""
        data = self.settings().data
        return self.steps * data.batch * data.accumulation * (data.views or 1)


def _settings(name: CellName, **values: Any) -> TrainSettings:
    cell = CELLS[name]
    own = {**values, "preset": cell.preset, "device": "cpu", "encoder_weights": "none"}
    if steps := values.get("max_steps"):
        own["validation"] = {"every_steps": -(-steps // CURVE)}
    plain = merge(merge(train_presets()[cell.preset], cell.recipe), own)
    return complete_model(validate(TrainSettings, plain, source="the study's settings"))


def _figures(found: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: found.get(metric) for name, metric in FIGURES.items()}
