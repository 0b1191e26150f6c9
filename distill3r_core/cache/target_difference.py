"""How far the targets of a sample differ from those that are stored."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.cache.sample_codec import float16_step
from distill3r_core.types import TeacherTargets

# Sums of float32 in another order move a result by far less than a step of float16, which may
# round to the neighbor. A global map is a rounded local one, carried and rounded again.
ROUNDING = 4  # float16 steps

Verdict = Literal["identical", "rounding", "different"]


@dataclass(frozen=True)
class TargetDifference:
    """How far two predictions for one sample differ."""

    equal: float  # share of equal float16 values, of all that are valid in one of the two
    largest_step: int  # in float16 steps, at pixels valid in both, rounded up
    flipped: int  # pixels valid in one of the two only
    unexplained: int  # those of them that are not so near the threshold that rounding decides

    @property
    def verdict(self) -> Verdict:
        """Whether the values are the same, the same up to rounding, or different."""
        if self.equal == 1.0 and not self.flipped:
            return "identical"
        small = self.largest_step <= ROUNDING and not self.unexplained
        return "rounding" if small else "different"

    def __str__(self) -> str:
        if self.verdict == "identical":
            return "identical"
        steps = f"{self.largest_step} float16 step{'s' * (self.largest_step != 1)}"
        flipped = f", {self.flipped} pixels in one mask only" if self.flipped else ""
        within = f"within {steps}" if self.verdict == "rounding" else f"different, up to {steps}"
        return f"{within}, {self.equal:.2%} equal{flipped}"


def compare_targets(
    stored: TeacherTargets, again: TeacherTargets, *, level: float | None = None
) -> TargetDifference:
    """Measure how far two predictions for one sample differ.

    Args:
        again: The other.
        level: The local confidence above which pixels are valid; None: the teacher's mask decides.

    Returns:
        Steps are those of the larger of the two values; of a point, of its largest coordinate: a
        coordinate near zero has small ones, and the noise of its neighbors. A global point's are
        not smaller than those of the local point that it was carried from.
    """
    both = stored.valid_mask & again.valid_mask
    either = stored.valid_mask | again.valid_mask
    scale = torch.linalg.norm(stored.global_from_local[..., :3], ord=2, dim=(-2, -1))
    carried = stored.points_local.abs().amax(-1, keepdim=True) * scale[:, None, None, None]
    maps = (
        (stored.points_local, again.points_local, 0.0),
        (stored.points_global, again.points_global, carried),
        (stored.confidence_local[..., None], again.confidence_local[..., None], 0.0),
        (stored.confidence_global[..., None], again.confidence_global[..., None], 0.0),
    )
    same, total, largest = 0, 0, 0.0
    for one, other, least in maps:
        one, other = one.half().float(), other.half().float()
        same += int((one == other)[both].sum())
        total += one.shape[-1] * int(either.sum())
        size = torch.maximum(one.abs(), other.abs()).amax(-1, keepdim=True)
        steps = (one - other).abs() / float16_step(torch.maximum(size, torch.as_tensor(least)))
        largest = max(largest, float(steps[both].amax()) if both.any() else 0.0)
    flipped = stored.valid_mask ^ again.valid_mask
    return TargetDifference(
        equal=same / total if total else 1.0,
        largest_step=math.ceil(largest),
        flipped=int(flipped.sum()),
        unexplained=int((flipped & ~_on_the_edge(stored, again, level)).sum()),
    )


def _on_the_edge(
    stored: TeacherTargets, again: TeacherTargets, level: float | None
) -> Bool[Tensor, "N H W"]:
    """Pixels whose confidence rounding may lift over the threshold."""
    if level is None:
        return torch.zeros_like(stored.valid_mask)
    # Outside its mask a confidence is 1, the least there is.
    confidence: Float[Tensor, "N H W"] = torch.maximum(
        stored.confidence_local, again.confidence_local
    )
    return (confidence - level).abs() <= ROUNDING * float16_step(confidence)
