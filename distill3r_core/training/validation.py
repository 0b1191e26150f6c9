"""How well a student repeats its teacher on samples it was not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill3r_core.data.batches import Samples
from distill3r_core.losses import DistillationLoss
from distill3r_core.training.distributed import World
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import predict


@dataclass(frozen=True)
class Agreement:
    """Means over held-out samples.

    Args:
        loss: As in training.
        points_local: Mean distance to the teacher's local points in the teacher's own unit, each
            view of the student brought to the teacher's scale (ratio of mean norms).
        points_global: The same for global points, with one scale for all views of a sample.
    """

    loss: float
    points_local: float
    points_global: float


def validate(
    student: nn.Module,
    batches: Iterable[Samples],
    loss: DistillationLoss,
    *,
    compute: ComputeSettings,
    bfloat16: bool,
    world: World,
) -> Agreement:
    """Look at held-out samples, each process at its part; the student is left in training mode."""
    device = next(student.parameters()).device
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    student.eval()
    with torch.no_grad():
        for batch in batches:
            there = batch.to(device)
            predicted = predict(student, there, compute=compute, bfloat16=bfloat16)
            targets, mask = there.targets, there.targets.valid_mask
            values = [
                loss(predicted, targets).total,
                distance(predicted.points_local, targets.points_local, mask, per_view=True),
                distance(predicted.points_global, targets.points_global, mask, per_view=False),
                torch.ones((), device=device),
            ]
            sums += len(batch) * torch.stack([value.double() for value in values])
    student.train()
    *means, count = world.sum(sums).tolist()
    assert count > 0, "nothing to validate on"
    return Agreement(*(mean / count for mean in means))


def distance(
    points: Float[Tensor, "B N H W 3"],
    wanted: Float[Tensor, "B N H W 3"],
    mask: Bool[Tensor, "B N H W"],
    *,
    per_view: bool,
) -> Float[Tensor, ""]:
    """Mean distance over valid pixels after the scale is taken from `wanted`, in its unit.

    Args:
        points: In any unit.
        wanted: In the unit of the result.
        mask: The pixels that count.
        per_view: One scale per view; otherwise one per sample.
    """
    dims = (-2, -1) if per_view else (-3, -2, -1)

    def norm(values: Float[Tensor, "B N H W 3"]) -> Float[Tensor, "..."]:
        return torch.where(mask, values.norm(dim=-1), 0.0).sum(dims, keepdim=True)

    scale = norm(wanted) / norm(points).clamp(min=1e-8)
    error = (points * scale[..., None] - wanted).norm(dim=-1)
    per_sample = torch.where(mask, error, 0.0).sum((1, 2, 3))
    return (per_sample / mask.sum((1, 2, 3)).clamp(min=1)).mean()
