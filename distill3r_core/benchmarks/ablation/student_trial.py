"""One student of the ablation: trained from a noisy teacher, scored against the ground truth."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from distill3r_core.benchmarks.ablation.rendered_rooms import TrueScene, noisy_targets, true_scene
from distill3r_core.data.loading.augment import anchor_first, unit_images
from distill3r_core.data.loading.batches import Batch, Draw, join_targets, map_targets, step_draws
from distill3r_core.data.loading.sample_requests import DrawSettings, request_of
from distill3r_core.errors import FailedError, GeometryError
from distill3r_core.geometry.metrics import ViewErrors, summarize_scales, view_errors
from distill3r_core.losses import Objective
from distill3r_core.models import Student, build_student
from distill3r_core.training.schedule import learning_rate
from distill3r_core.training.settings import (
    ComputeSettings,
    LossSettings,
    OptimSettings,
    ScheduleSettings,
)
from distill3r_core.training.step import accumulate, build_optimizer
from distill3r_core.training.validation import distance
from distill3r_core.types import PointMaps, TeacherTargets

# Local maps, global maps, and the pixels that count (None: all) of a room's views.
Prediction = tuple[Tensor, Tensor, Tensor | None]

_FIRST_ROOM = 1000  # the rooms are the same for all students; their teacher's errors are not


@dataclass(frozen=True)
class Trial:
    """The training of one student; for the other fields see `AblationSettings`.

    Everything random comes from the seed: the students of one seed start from the same weights,
    see the same views in the same order, and learn from the same errors of the teacher.

    Args:
        loss: Settings of the loss; None: no student is trained, and the teacher is scored.
    """

    variant: str
    loss: LossSettings | None
    seed: int
    steps: int
    batch: int
    views: int
    size: tuple[int, int]
    scenes: int
    frames: int
    every: int
    lr: float
    model: dict[str, Any] = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """Plain data, equal after a way through JSON; `from_plain` reads it back."""
        return TypeAdapter(Trial).dump_python(self, mode="json")

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Trial":
        """The trial of `as_plain`."""
        return TypeAdapter(Trial).validate_python(plain)


@dataclass(frozen=True)
class Score:
    """Errors against the ground truth, on held-out views.

    The first three are the columns of the paper's Table III, which scores every view alone.

    Args:
        scale: Factor that fits a view's local map to the truth, mean over views. The losses are
            invariant to scale, so no student learns it.
        acc_global: Accuracy of global maps in meters: median over the points of all views after
            one similarity per room, mean over rooms.
        global_error: Mean distance of global points to their own true points in meters, after one
            scale per room and no rotation.
    """

    acc: float  # accuracy of local maps in meters: median over a view's points, mean over views
    comp: float  # completeness in meters, likewise
    scale: float
    scale_spread: float  # standard deviation of the logarithm of these factors
    acc_global: float
    comp_global: float  # completeness in meters, likewise
    global_error: float


@dataclass(frozen=True)
class TrialOutcome:
    """Scores of a trial."""

    score: Score  # errors on held-out views
    clipped: float | None  # share of the steps whose gradient was clipped; None for the teacher


class Rooms:
    """Training samples in memory, one per room: its training views with the teacher's targets."""

    def __init__(self, trial: Trial, scenes: Sequence[TrueScene]) -> None:
        training = [view for view in range(trial.frames) if view % trial.every]
        self._samples = {
            f"room-{number}": (
                scene.images[training],
                _views(_teacher_targets(trial, scene, number), training),
            )
            for number, scene in enumerate(scenes)
        }
        self.names = list(self._samples)
        self._available = len(training)

    def batch(self, draws: Sequence[Draw], settings: DrawSettings) -> Batch:
        """The batch of some draws. Its targets are not rounded, as no cache is involved."""
        requests = [
            request_of(draw, available=self._available, settings=settings) for draw in draws
        ]
        images, targets = [], []
        for request in requests:
            of_room, targets_of_room = self._samples[request.name]
            chosen = _views(targets_of_room, request.views)
            images.append(of_room[list(request.views)])
            targets.append(anchor_first(chosen) if request.reanchored else chosen)
        return Batch(
            images=torch.stack(images),
            targets=join_targets(targets, lambda maps: torch.stack(tuple(maps))),
            view_numbers=torch.tensor([request.view_numbers for request in requests]),
            colors=None,
            draws=tuple(draws),
        )


def run_trial(trial: Trial, on_step: Callable[[], None]) -> TrialOutcome:
    """Train and score one student, in this process and on its CPU.

    Args:
        on_step: Called after every optimizer step.
    """
    scenes = rooms(trial)
    predictions: list[Prediction] = []
    if trial.loss is None:  # the teacher's own maps, with its valid mask
        for number, scene in enumerate(scenes):
            targets = _held_out_targets(trial, _teacher_targets(trial, scene, number))
            predictions.append((targets.points_local, targets.points_global, targets.valid_mask))
        return TrialOutcome(_score(trial, scenes, predictions), clipped=None)
    student = new_student(trial)
    clipped = _train(student, trial, trial.loss, Rooms(trial, scenes), on_step)
    student.eval()
    for scene in scenes:
        with torch.no_grad():
            maps = student(unit_images(scene.images[_held_out(trial)])[None])
        assert isinstance(maps, PointMaps)
        global_map, local_map = maps.both
        predictions.append((local_map.points[0], global_map.points[0], None))
    return TrialOutcome(_score(trial, scenes, predictions), clipped)


def new_student(trial: Trial) -> Student:
    """An untrained student. Seeds torch: the process does nothing else."""
    torch.manual_seed(trial.seed)
    return build_student("tiny", **trial.model).train()


def rooms(trial: Trial) -> list[TrueScene]:
    """Render the rooms of a trial."""
    seeds = range(_FIRST_ROOM, _FIRST_ROOM + trial.scenes)
    return [true_scene(seed, trial.frames, trial.size) for seed in seeds]


def batches(trial: Trial, source: Rooms) -> Iterator[Batch]:
    """Batches of the training steps, in order."""
    settings = DrawSettings(views=trial.views, seed=trial.seed)
    steps = step_draws({"all": source.names}, size=trial.batch, seed=trial.seed)
    for draws in islice(steps, trial.steps):
        yield source.batch(draws, settings)


def _train(
    student: Student,
    trial: Trial,
    settings: LossSettings,
    source: Rooms,
    on_step: Callable[[], None],
) -> float:
    """Train a student; returns the share of steps whose gradient was clipped."""
    optim = OptimSettings(lr=trial.lr)
    schedule = ScheduleSettings(warmup_steps=None, final_lr=trial.lr / 100)
    optimizer = build_optimizer(student, optim)
    loss = Objective(settings.all_terms)
    clipped = 0
    for step, batch in enumerate(batches(trial, source)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=trial.steps, optim=optim, schedule=schedule)
        optimizer.zero_grad(set_to_none=True)
        accumulate(
            student,
            loss,
            batch,
            micro_batch=trial.batch,
            compute=ComputeSettings(),
            bfloat16=False,
        )
        norm = nn.utils.clip_grad_norm_(student.parameters(), optim.clip)
        clipped += norm.item() > optim.clip
        optimizer.step()
        on_step()
    return clipped / trial.steps


def _score(trial: Trial, scenes: Sequence[TrueScene], predictions: Sequence[Prediction]) -> Score:
    views: list[ViewErrors] = []
    whole: list[ViewErrors] = []
    distances: list[float] = []
    for number, (scene, (local, world, mask)) in enumerate(zip(scenes, predictions, strict=True)):
        truth = _held_out_targets(trial, scene.targets)
        counted = truth.valid_mask if mask is None else mask
        # All views of a room as one tall image: one similarity aligns them all.
        tall = [maps.flatten(0, 1) for maps in (world, truth.points_global, counted)]
        try:
            views += map(view_errors, local, truth.points_local, counted)
            whole.append(view_errors(*tall))
        except GeometryError as error:
            raise FailedError(f"room-{number}: {error}") from error
        error = distance(world[None], truth.points_global[None], counted[None], per_view=False)
        distances.append(float(error))
    scales = summarize_scales([view.scale for view in views])
    return Score(
        acc=statistics.fmean(view.accuracy for view in views),
        comp=statistics.fmean(view.completeness for view in views),
        scale=scales.arithmetic_mean,
        scale_spread=scales.log_spread,
        acc_global=statistics.fmean(room.accuracy for room in whole),
        comp_global=statistics.fmean(room.completeness for room in whole),
        global_error=math.fsum(distances) / len(distances),
    )


def _held_out(trial: Trial) -> list[int]:
    return list(range(0, trial.frames, trial.every))


def _teacher_targets(trial: Trial, scene: TrueScene, number: int) -> TeacherTargets:
    return noisy_targets(scene, seed=trial.seed * trial.scenes + number)


def _held_out_targets(trial: Trial, targets: TeacherTargets) -> TeacherTargets:
    return anchor_first(_views(targets, _held_out(trial)))


def _views(targets: TeacherTargets, views: Sequence[int]) -> TeacherTargets:
    chosen = torch.tensor(views)
    return map_targets(targets, lambda maps: maps[chosen])
