"""What a result says of the refinement of its poses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from distill3r_core.reconstruction.refinement.judgement import HOPE, LEAST_AGREEMENT


@dataclass(frozen=True)
class RefinementSummary:
    """What became of the poses.

    Args:
        reason: Why poses were not refined; empty where they were.
        aligned: For each view, whether images and depth place it; the others keep the model's pose.
        groups: Groups of aligned views; only within one are relative poses refined.
        pairs: Pairs of views that were compared.
        accepted: Pairs that align.
        contradicted: Pairs that align by themselves, but with no two others around a triangle.
        residual: Median difference of brightness over aligned views, of 1; None without any.
        residuals: For each view the median over its accepted pairs; None where it is not aligned.
        agreements: For each view the share of points whose depth agrees within 10 % with that of
            the views that it aligns with, the median over its accepted pairs in the end; or None.
        focal_factor: Focal length that fits the motion best, over the one of the maps.
        seconds: Time it took.
        first_pose: Pose of the first view in the frame of the poses that were given; its camera is
            the frame of the refined ones. None where poses were not refined.
    """

    reason: str = ""
    aligned: Sequence[bool] = ()
    groups: int = 0
    pairs: int = 0
    accepted: int = 0
    contradicted: int = 0
    residual: float | None = None
    residuals: Sequence[float | None] = ()
    agreements: Sequence[float | None] = ()
    focal_factor: float = 1.0
    seconds: float = 0.0
    first_pose: Float[np.ndarray, "4 4"] | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """In a few words."""
        if self.reason:
            return f"not refined ({self.reason})"
        found = f"{sum(self.aligned)} of {len(self.aligned)} views aligned"
        return found if self.groups <= 1 else f"{found}, in {self.groups} separate groups"

    @property
    def supported(self) -> float | None:
        """Share of the aligned views that in the end, with one pose and scale for all their pairs,
        still agree with the others half as much as a pair by itself must to be accepted: what has
        less is not even tried on finer levels. None without any.
        """
        known = [share for share in self.agreements if share is not None]
        if not known:
            return None
        return sum(share > HOPE * LEAST_AGREEMENT for share in known) / len(known)

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        if self.reason:
            return {"refined": False, "reason": self.reason}
        return {
            "refined": True,
            "method": "direct image alignment",
            "aligned": sum(self.aligned),
            "groups": self.groups,
            "pairs": self.pairs,
            "accepted_pairs": self.accepted,
            "contradicted_pairs": self.contradicted,
            "residual": None if self.residual is None else round(self.residual, 5),
            "focal_factor": round(self.focal_factor, 5),
            "seconds": round(self.seconds, 3),
        }
