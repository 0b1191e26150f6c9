"""Two ways to compute one training step: batched, and as the original project does."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill3r_core.data.augment import unit_images
from distill3r_core.data.batches import Batch
from distill3r_core.losses import DistillationLoss
from distill3r_core.models import Student
from distill3r_core.training.settings import TrainSettings
from distill3r_core.training.step import build_optimizer, head_chunk
from distill3r_core.types import PointMaps


@dataclass(frozen=True)
class Parts:
    """Seconds of the parts of a step."""

    forward: float
    backward: float
    optimizer: float
    cpu: float
    data: float = 0.0

    @property
    def seconds(self) -> float:
        """Of computing: all but the wait for data."""
        return self.forward + self.backward + self.optimizer


class Loops:
    """Steps of one student, each from the weights that the last one left.

    Args:
        student: On its device, in training mode.
        recipe: Loss, optimizer and chunks.
        device: Where it computes.
    """

    def __init__(self, student: Student, recipe: TrainSettings, device: torch.device) -> None:
        self._student, self._device = student, device
        self._clip = recipe.optim.clip
        self._chunk = head_chunk(recipe.compute, device)
        self._loss = DistillationLoss(**vars(recipe.loss))
        self._optimizer = build_optimizer(student, recipe.optim)

    def batched(self, batch: Batch) -> Parts:
        """All samples in one forward."""
        return self._step([batch.to(self._device)], chunk=self._chunk, reference=False)

    def one_at_a_time(self, batch: Batch) -> Parts:
        """A forward for every sample, its heads view by view in the published order of operations.

        Golden facts 14.1: this is what the released training loop does.
        """
        samples = [batch.rows(row, row + 1).to(self._device) for row in range(len(batch))]
        return self._step(samples, chunk=1, reference=True)

    def _step(self, samples: Sequence[Batch], *, chunk: int | None, reference: bool) -> Parts:
        self._optimizer.zero_grad(set_to_none=True)
        cpu, times = time.process_time(), [self._now()]
        losses = [self._forward(part, chunk, reference=reference) for part in samples]
        times.append(self._now())
        torch.stack(losses).mean().backward()
        times.append(self._now())
        nn.utils.clip_grad_norm_(self._student.parameters(), self._clip)
        self._optimizer.step()
        times.append(self._now())
        forward, backward, optimizer = (end - start for start, end in itertools.pairwise(times))
        return Parts(forward, backward, optimizer, time.process_time() - cpu)

    def _forward(self, part: Batch, chunk: int | None, *, reference: bool) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            maps = self._student(
                unit_images(part.images, part.colors),
                view_numbers=part.view_numbers,
                head_chunk=chunk,
                reference=reference,
            )
        assert isinstance(maps, PointMaps)
        return self._loss(maps, part.targets).total

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
