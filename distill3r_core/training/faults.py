"""What is saved and reported when a step goes wrong."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill3r_core.data.loading.batches import Batch, Draw
from distill3r_core.files import replacing, write_text
from distill3r_core.training.run_state import random_states, restore_random_states
from distill3r_core.types import TeacherTargets

FOLDER = "nan"
_WARM = 10  # steps whose mean ratio is the one to compare with


def save_step(
    run: Path, *, step: int, rank: int, batch: Batch, student: nn.Module, facts: dict[str, Any]
) -> Path:
    """Keep a step that gave a loss or gradient that is not finite, so that it can be replayed.

    Args:
        rank: Rank of the process; each keeps its own share.
        student: Weights before the step.
    """
    folder = run / FOLDER / (f"step-{step:06d}" if rank == 0 else f"step-{step:06d}-rank-{rank}")
    targets = batch.targets
    plain = {
        "images": batch.images,
        "targets": {name: getattr(targets, name) for name in TeacherTargets.__match_args__},
        "view_numbers": batch.view_numbers,
        "colors": batch.colors,
        "features": dict(batch.features),
        "draws": [asdict(draw) for draw in batch.draws],
    }
    with replacing(folder / "step.pt") as beside:
        torch.save(
            {
                "weights": student.state_dict(),
                "batch": plain,
                **random_states(next(student.parameters()).device),
            },
            beside,
        )
    names = [draw.name for draw in batch.draws]
    write_text(folder / "facts.json", json.dumps({"step": step, "samples": names, **facts}) + "\n")
    return folder


def load_step(
    folder: Path, *, device: torch.device = torch.device("cpu")
) -> tuple[Batch, dict[str, Tensor]]:
    """The batch and the weights of a step that `save_step` kept, on the CPU.

    Args:
        device: Device on which it will be replayed; its random state is restored beside the CPU's.
    """
    kept = torch.load(folder / "step.pt", map_location="cpu", weights_only=True)
    restore_random_states(kept, device)
    plain = kept["batch"]
    batch = Batch(
        images=plain["images"],
        targets=TeacherTargets(**plain["targets"]),
        view_numbers=plain["view_numbers"],
        colors=plain["colors"],
        draws=tuple(Draw(**draw) for draw in plain["draws"]),
        features=plain["features"],
    )
    return batch, kept["weights"]


@dataclass
class NormWatch:
    """Detects that the raw outputs of the student grow without bound.

    The loss does not fix the student's scale, so its points may grow without end and leave the
    range in which float32 and bfloat16 are exact: a known fault of distilled dense models.

    Args:
        growth: How many times the ratio to the teacher's norm may change, up or down, from what
            it was in the run's first steps.
        meets: Whether the loss draws the ratio to 1: all between 1 and that of the first steps is
            on its way.
    """

    growth: float
    meets: bool = False
    _steps_seen: int = 0
    _start: float = 0.0
    _warned: bool = False

    def update(self, *, student: float, teacher: float, what: str) -> str | None:
        """One step's mean norms; a warning, once, when they have run away."""
        if not (student > 0 and teacher > 0):
            return None
        ratio = student / teacher
        self._steps_seen += 1
        if self._steps_seen <= _WARM:
            self._start += (ratio - self._start) / self._steps_seen
            return None
        least, most = self._start, self._start
        if self.meets:
            least, most = min(least, 1.0), max(most, 1.0)
        change = max(ratio / most, least / ratio)
        if self._warned or change < self.growth:
            return None
        self._warned = True
        return (
            f"warning: the student's mean {what} diverges: {student:.3g} against the teacher's "
            f"{teacher:.3g}, in the first steps {self._start:.3g} times the teacher's; a lower "
            "optim.lr or more optim.weight_decay holds it"
        )


def smaller_passes(micro_batch: int, *, samples: int) -> str:
    """Message about memory that did not suffice.

    Args:
        micro_batch: Samples that go through the student at once from now on.
    """
    passes = math.ceil(samples / micro_batch)
    return (
        f"out of memory: now {micro_batch} samples at once and {passes} passes a step; "
        "the effective batch stays"
    )
