"""One optimizer step: forward and backward by micro-batches, then AdamW."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill3r_core.allocator import keep_freed_memory
from distill3r_core.data.augment import unit_images
from distill3r_core.data.batches import Batch, Samples
from distill3r_core.losses import DistillationLoss
from distill3r_core.training.settings import ComputeSettings, OptimSettings
from distill3r_core.types import PointMaps


@dataclass(frozen=True)
class Figures:
    """What a step is watched by: means over its samples; points in the unit they come in.

    The loss and its three terms, then the mean norm of raw points and the mean confidence of the
    student and of the teacher, over valid pixels, both heads together.
    """

    loss: float
    loss_global: float
    loss_local: float
    loss_confidence: float
    norm_student: float
    norm_teacher: float
    confidence_student: float
    confidence_teacher: float


# Views that go through a head at once where nobody says: enough to fill the units, no more than
# fits the caches.
HEAD_CHUNK = {"cpu": 8, "cuda": 20}

_KEPT_BLOCK, _KEPT = 1 << 30, (1 << 31) - 1  # bytes

FIGURES = tuple(field.name for field in fields(Figures))


def build_optimizer(student: nn.Module, optim: OptimSettings) -> torch.optim.AdamW:
    """AdamW, fused; with `decay: matrices` only tensors of two and more axes decay."""
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    decayed = [p for p in trained if optim.decay == "all" or p.ndim >= 2]
    others = [p for p in trained if optim.decay == "matrices" and p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optim.lr,
        betas=optim.betas,
        eps=optim.eps,
        fused=True,
    )


def prepare_memory(device: torch.device) -> None:
    """What a step frees, the next one needs: on a CPU a tenth of its time were page faults."""
    if device.type == "cpu":
        keep_freed_memory(block=_KEPT_BLOCK, kept=_KEPT)


def head_chunk(compute: ComputeSettings, device: torch.device) -> int | None:
    """Views that go through a head at once; None: all of them."""
    return compute.head_chunk or HEAD_CHUNK.get(device.type)


def predict(
    student: nn.Module, batch: Batch, *, compute: ComputeSettings, bfloat16: bool
) -> PointMaps:
    """What the student says about a batch that lies on its device."""
    parameter = next(student.parameters())
    images = unit_images(batch.images, batch.colors).to(parameter.dtype)
    with torch.autocast(parameter.device.type, torch.bfloat16, enabled=bfloat16):
        return student(
            images,
            view_numbers=batch.view_numbers,
            head_chunk=head_chunk(compute, parameter.device),
            recompute=compute.recompute,
        )


def accumulate(
    student: nn.Module,
    loss: DistillationLoss,
    batch: Samples,
    *,
    micro_batch: int,
    compute: ComputeSettings,
    bfloat16: bool,
) -> Float[Tensor, "figures"]:
    """Add the gradient of the batch's mean loss to the student's; the `FIGURES` of the batch.

    Nothing waits for the device here.

    Args:
        student: Bare, or wrapped for several processes.
        loss: Of a micro-batch.
        batch: In the machine's memory; each micro-batch is finished on the student's device.
        micro_batch: Samples that go through the student at once.
        compute: How.
        bfloat16: Whether matrix products run in bfloat16.
    """
    device = next(student.parameters()).device
    starts = range(0, len(batch), micro_batch)
    totals = torch.zeros(len(FIGURES), device=device)
    for start in starts:
        part = batch.rows(start, start + micro_batch).to(device)
        share = len(part) / len(batch)
        last = start == starts[-1]
        wrapped = isinstance(student, DistributedDataParallel)
        with student.no_sync() if wrapped and not last else nullcontext():
            predicted = predict(student, part, compute=compute, bfloat16=bfloat16)
            terms = loss(predicted, part.targets)
            (share * terms.total).backward()
        with torch.no_grad():
            values = [terms.total, terms.points_global, terms.points_local, terms.confidence]
            totals += share * torch.stack([*values, *_norms(predicted, part)]).float()
    return totals


def _norms(predicted: PointMaps, batch: Batch) -> Iterable[Float[Tensor, ""]]:
    targets, mask = batch.targets, batch.targets.valid_mask
    for points in (
        (predicted.points_global, predicted.points_local),
        (targets.points_global, targets.points_local),
    ):
        yield (_mean(points[0].norm(dim=-1), mask) + _mean(points[1].norm(dim=-1), mask)) / 2
    for side in (predicted, targets):
        yield (_mean(side.confidence_global, mask) + _mean(side.confidence_local, mask)) / 2


def _mean(values: Float[Tensor, "*any"], mask: Bool[Tensor, "*any"]) -> Float[Tensor, ""]:
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)
