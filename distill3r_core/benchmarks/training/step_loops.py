"""Two ways to compute one training step: batched, and as the original project does."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from distill3r_core.data.loading.augment import unit_images
from distill3r_core.data.loading.batches import Batch
from distill3r_core.losses import Objective
from distill3r_core.models import Student
from distill3r_core.models.families import family_of
from distill3r_core.training.settings import TrainSettings
from distill3r_core.training.step import build_optimizer, predict
from distill3r_core.types import PointMaps

_MILLISECOND = 1e-3


@dataclass(frozen=True)
class StepTiming:
    """Seconds of the parts of a step; `cpu` of all threads."""

    forward: float
    backward: float
    optimizer: float
    cpu: float

    @property
    def seconds(self) -> float:
        """Time of computing: everything but the wait for data."""
        return self.forward + self.backward + self.optimizer


class StepLoops:
    """Training steps of one student, computed in two ways.

    Args:
        student: Student in training mode, on the device.
        recipe: Loss, optimizer, chunks and recomputation.
    """

    def __init__(self, student: Student, recipe: TrainSettings, device: torch.device) -> None:
        self._student, self._device = student, device
        self._clip = recipe.optim.clip
        self._compute, self._bfloat16 = recipe.compute, device.type == "cuda"
        self._loss = Objective(recipe.loss.all_terms)
        self._optimizer = build_optimizer(student, recipe.optim)

    def batched(self, batch: Batch) -> StepTiming:
        """All samples in one forward."""
        return self._step([batch], self._predict)

    def one_at_a_time(self, batch: Batch) -> StepTiming:
        """A forward for every sample, its heads view by view in the published order of operations.

        The released training loop: no recomputation, and one backward pass through the graphs of
        all samples, which stay in memory until then.
        """
        samples = [batch.rows(row, row + 1) for row in range(len(batch))]
        return self._step(samples, self._predict_as_published)

    def release_memory(self) -> None:
        """Free what a step that ran out of memory left behind."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _step(self, samples: Sequence[Batch], predict: Callable[[Batch], PointMaps]) -> StepTiming:
        self._optimizer.zero_grad(set_to_none=True)
        clock = _StepClock(self._device)
        losses = []
        for part in samples:
            part = part.to(self._device)
            losses.append(self._loss(predict(part), part.targets).total)
        clock.add()
        torch.stack(losses).mean().backward()
        clock.add()
        nn.utils.clip_grad_norm_(self._student.parameters(), self._clip)
        self._optimizer.step()
        clock.add()
        return clock.timing()

    def _predict(self, batch: Batch) -> PointMaps:
        return predict(self._student, batch, compute=self._compute, bfloat16=self._bfloat16)

    def _predict_as_published(self, batch: Batch) -> PointMaps:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            published = family_of(self._student.spec).published
            assert published is not None, "a family without a published order of operations"
            maps = published(
                self._student,
                unit_images(batch.images, batch.colors),
                view_numbers=batch.view_numbers,
                head_chunk=1,
            )
        assert isinstance(maps, PointMaps)
        return maps


class _StepClock:
    """Times within a step. A GPU records its own, so that the step never waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._cpu = time.process_time()
        self.add()

    def add(self) -> None:
        """Record the current time."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def timing(self) -> StepTiming:
        """The times between the four readings of the clock."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            spans = [
                start.elapsed_time(end) * _MILLISECOND
                for start, end in itertools.pairwise(self._events)
            ]
        else:
            spans = [end - start for start, end in itertools.pairwise(self._times)]
        forward, backward, optimizer = spans
        return StepTiming(forward, backward, optimizer, time.process_time() - self._cpu)
