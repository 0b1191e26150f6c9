"""One student of the ablation: trained from a noisy teacher, scored against the truth."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from distill3r_core.data.augment import anchor_first, unit_images
from distill3r_core.data.batches import Batch, Draw, join_targets, map_targets, step_draws
from distill3r_core.data.requests import Request, Use, request_of
from distill3r_core.evaluation.scores import SequenceScore, score_sequence
from distill3r_core.geometry.metrics import summarize_scales
from distill3r_core.losses import DistillationLoss
from distill3r_core.models import build_student
from distill3r_core.stages.bench.ablation.scenes import TrueScene, noisy_targets, true_scene
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

_FIRST_ROOM = 1000  # the rooms are the same for all students; their teacher's errors are not


@dataclass(frozen=True)
class Trial:
    """What one student is made from; see `AblationSettings`."""

    variant: str
    loss: LossSettings
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


@dataclass(frozen=True)
class Score:
    """Against the truth, on views that were not learned from.

    Args:
        acc: Accuracy of local maps, metres: median over a view's points, mean over views.
        comp: Completeness, metres, likewise.
        scale_spread: Deviation of the log of the views' best scales: 0 where one factor fits all.
        global_error: Mean distance of global points, one scale per room, metres.
    """

    acc: float
    comp: float
    scale_spread: float
    global_error: float


class Rooms:
    """Samples in memory, one per room: its views that are learned from, as the teacher sees them.

    Args:
        trial: Which views; whose errors.
        scenes: The rooms.
    """

    def __init__(self, trial: Trial, scenes: Sequence[TrueScene]) -> None:
        learned = [view for view in range(trial.frames) if view % trial.every]
        self._samples = {
            f"room-{number}": (
                scene.images[learned],
                _views(_said(trial, scene, number), learned),
            )
            for number, scene in enumerate(scenes)
        }
        self.names = list(self._samples)
        self._available = len(learned)

    def batch(self, draws: Sequence[Draw], use: Use) -> Batch:
        """What is shown of some draws; no cache is between, so its targets are not rounded."""
        requests = [request_of(draw, available=self._available, use=use) for draw in draws]
        images, targets = zip(*map(self._shown, requests), strict=True)
        return Batch(
            images=torch.stack(images),
            targets=join_targets(targets, lambda maps: torch.stack(tuple(maps))),
            view_numbers=torch.tensor([request.view_numbers for request in requests]),
            colors=None,
            draws=tuple(draws),
        )

    def _shown(self, request: Request) -> tuple[Tensor, TeacherTargets]:
        images, targets = self._samples[request.name]
        shown = _views(targets, request.views)
        return images[list(request.views)], anchor_first(shown) if request.reanchored else shown


def run_trial(trial: Trial) -> Score:
    """Train and score one student, in this process and on its CPU."""
    scenes = rooms(trial)
    torch.manual_seed(trial.seed)  # this process does nothing else
    student = build_student("tiny", **trial.model).train()
    _train(student, trial, Rooms(trial, scenes))
    student.eval()
    predictions = []
    for scene in scenes:
        with torch.no_grad():
            maps = student(unit_images(scene.images[_held_out(trial)])[None])
        assert isinstance(maps, PointMaps)
        predictions.append((maps.points_local[0], maps.points_global[0], None))
    return _score(trial, scenes, predictions)


def teacher_score(trial: Trial) -> Score:
    """The same figures for what the teacher says about the held-out views."""
    scenes = rooms(trial)
    predictions = []
    for number, scene in enumerate(scenes):
        said = _anchored(_said(trial, scene, number), _held_out(trial))
        predictions.append((said.points_local, said.points_global, said.valid_mask))
    return _score(trial, scenes, predictions)


def rooms(trial: Trial) -> list[TrueScene]:
    """The rooms of a trial."""
    seeds = range(_FIRST_ROOM, _FIRST_ROOM + trial.scenes)
    return [true_scene(seed, trial.frames, trial.size) for seed in seeds]


def _train(student: nn.Module, trial: Trial, source: Rooms) -> None:
    optim = OptimSettings(lr=trial.lr)
    schedule = ScheduleSettings(warmup_steps=None, final_lr=trial.lr / 100)
    optimizer = build_optimizer(student, optim)
    loss = DistillationLoss(**vars(trial.loss))
    for step, batch in enumerate(_batches(source, trial)):
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
        nn.utils.clip_grad_norm_(student.parameters(), optim.clip)
        optimizer.step()


def _batches(source: Rooms, trial: Trial) -> Iterator[Batch]:
    use = Use(views=trial.views, seed=trial.seed)
    steps = step_draws({"all": source.names}, size=trial.batch, seed=trial.seed)
    for draws in islice(steps, trial.steps):
        yield source.batch(draws, use)


def _score(
    trial: Trial,
    scenes: Sequence[TrueScene],
    predictions: Sequence[tuple[Tensor, Tensor, Tensor | None]],
) -> Score:
    """Local maps, global maps, and the pixels that count (None: all) of every room."""
    sequences: list[SequenceScore] = []
    distances: list[float] = []
    for number, (scene, (local, world, mask)) in enumerate(zip(scenes, predictions, strict=True)):
        truth = _anchored(scene.targets, _held_out(trial))
        counted = truth.valid_mask if mask is None else mask
        names = [str(view) for view in _held_out(trial)]
        sequences.append(
            score_sequence(f"room-{number}", local, truth.points_local, counted, view_names=names)
        )
        error = distance(world[None], truth.points_global[None], counted[None], per_view=False)
        distances.append(float(error))
    views = [view for sequence in sequences for view in sequence.views]
    return Score(
        acc=statistics.fmean(view.accuracy for view in views),
        comp=statistics.fmean(view.completeness for view in views),
        scale_spread=summarize_scales([view.scale for view in views]).log_spread,
        global_error=math.fsum(distances) / len(distances),
    )


def _held_out(trial: Trial) -> list[int]:
    return list(range(0, trial.frames, trial.every))


def _said(trial: Trial, scene: TrueScene, number: int) -> TeacherTargets:
    return noisy_targets(scene, seed=trial.seed * trial.scenes + number)


def _anchored(targets: TeacherTargets, views: Sequence[int]) -> TeacherTargets:
    return anchor_first(_views(targets, views))


def _views(targets: TeacherTargets, views: Sequence[int]) -> TeacherTargets:
    chosen = torch.tensor(views)
    return map_targets(targets, lambda maps: maps[chosen])
