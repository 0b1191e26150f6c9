"""Turn the maps that a teacher predicts into training targets: one step for all teachers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.cameras import place_intrinsics, unproject
from distill3r_core.geometry.resample import Box, resample_bilinear, resample_nearest, whole
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.teachers.align import align
from distill3r_core.types import ImagePlacement, RawMaps, TeacherTargets

Resample = Literal["edges", "release"]
ThresholdOn = Literal["excess", "confidence"]
GlobalMap = Literal["aligned", "own"]

LARGEST = 65504.0  # of float16, in which targets are stored
_WHOLLY = 1 - 1e-6  # a bilinear value that is mixed from covered pixels only, but for rounding


@dataclass(frozen=True)
class RejectedPixels:
    """Counts of pixels, at the student's size, that the export rejected, by their first reason.

    Args:
        masked: By the teacher's own mask or the image's.
        not_finite: A coordinate or a confidence is no finite number.
        out_of_range: A coordinate is beyond +-65504.
        unaligned: No similarity carries the view's local map into the anchor's frame.
        doubted: The local confidence is at or below the threshold.
    """

    masked: int = 0
    not_finite: int = 0
    out_of_range: int = 0
    unaligned: int = 0
    doubted: int = 0

    def __add__(self, other: "RejectedPixels") -> "RejectedPixels":
        return RejectedPixels(
            self.masked + other.masked,
            self.not_finite + other.not_finite,
            self.out_of_range + other.out_of_range,
            self.unaligned + other.unaligned,
            self.doubted + other.doubted,
        )


@dataclass(frozen=True)
class CountedTargets:
    """Targets, and the pixels that were rejected."""

    targets: TeacherTargets
    rejected: RejectedPixels


def make_targets(
    raw: RawMaps,
    *,
    size: tuple[int, int],
    boxes: Sequence[Box] | None = None,
    threshold: float | None = None,
    threshold_on: ThresholdOn = "excess",
    resample: Resample = "edges",
    global_map: GlobalMap = "aligned",
) -> CountedTargets:
    """Align, resize and mask a teacher's maps.

    Args:
        raw: What the teacher said of one sample.
        size: Rows and columns of the targets.
        boxes: The part of each raw map that the student sees, in that map's pixels; None: all.
        threshold: Threshold of the local confidence; None: the teacher's mask is all there is.
        threshold_on: "excess": pixels count where `confidence_local - 1` is above the threshold,
            which has the paper's range of confidences. "confidence": where `confidence_local` is,
            the release's reading, which leaves nothing out of a network's maps.
        resample: "edges" takes, for every target, the one pixel its center falls into: point,
            confidences and mask are what the teacher said of one place, and no point hangs between
            foreground and background. The price is a shift by at most half a pixel of the raw
            map; where the teacher knows K there is none, as its depth is put on the target's own
            ray. "release" mixes points and confidences bilinearly, as the released exporter does.
        global_map: "aligned": the global map is the similarity of the local one. "own": global
            points of the teacher's own, where it has them, are kept beside it.

    Returns:
        Targets in float32, on the device of the raw maps: points 0 and confidences 1 outside the
        mask; a view that nothing aligns has the identity and no valid pixel.
    """
    boxes = [whole(points) for points in raw.points_local] if boxes is None else boxes
    views = [_RawView.of(raw, i, _SourceBox(box, size, resample)) for i, box in enumerate(boxes)]
    placed = [view.points(raw.intrinsics) for view in views]
    moved = torch.stack([points for points, _ in placed])
    intrinsics = [k for _, k in placed if k is not None]
    own = None
    if global_map == "own" and raw.points_global is not None:
        own = torch.stack([view.read(view.own) for view in views if view.own is not None])
    similarities = [view.similarity(raw.global_from_local) for view in views]
    identity = torch.eye(3, 4, device=moved.device)
    found = torch.stack([identity if one is None else one for one in similarities])
    carried = apply_similarity(found, moved) if own is None else own
    confidence = torch.stack([view.read(view.confidence_local) for view in views])
    level = -torch.inf if threshold is None else threshold + (threshold_on == "excess")
    aligned = torch.tensor([one is not None for one in similarities], device=moved.device)
    reasons = {  # in the order in which they are counted
        "masked": ~torch.stack([view.covers(view.teacher_valid) for view in views]),
        "not_finite": ~torch.stack([view.covers(view.usable) for view in views]),
        "out_of_range": (torch.maximum(moved.abs(), carried.abs()) > LARGEST).any(-1),
        "unaligned": ~aligned[:, None, None].expand_as(confidence),
        "doubted": confidence <= level,
    }
    valid_mask, rejected = _count(reasons)
    doubt = torch.stack([view.read(view.confidence_global) for view in views])
    targets = TeacherTargets(
        points_local=torch.where(valid_mask[..., None], moved, 0.0),
        confidence_local=torch.where(valid_mask, confidence, 1.0),
        confidence_global=torch.where(valid_mask, doubt, 1.0),
        valid_mask=valid_mask,
        global_from_local=found,
        stored_points_global=None if own is None else torch.where(valid_mask[..., None], own, 0.0),
        intrinsics=torch.stack(intrinsics) if intrinsics else None,
        local_only=torch.ones_like(aligned) if raw.local_only else None,
    )
    return CountedTargets(targets, rejected)


def _count(reasons: dict[str, Tensor]) -> tuple[Bool[Tensor, "N H W"], RejectedPixels]:
    """The pixels that no reason leaves out, and how many each one does."""
    valid = torch.ones_like(reasons["masked"])
    counts = {}
    for name, out in reasons.items():
        counts[name] = int((valid & out).sum())
        valid &= ~out
    return valid, RejectedPixels(**counts)


@dataclass(frozen=True)
class _SourceBox:
    """How the student looks at one raw map."""

    box: Box
    size: tuple[int, int]
    resample: Resample

    def read(self, values: Tensor) -> Tensor:
        take = resample_nearest if self.resample == "edges" else resample_bilinear
        return take(values, self.box, self.size)


@dataclass(frozen=True)
class _RawView:
    """The raw maps of one view, in float32."""

    points_local: Float[Tensor, "H W 3"]
    own: Float[Tensor, "H W 3"] | None
    confidence_local: Float[Tensor, "H W"]
    confidence_global: Float[Tensor, "H W"]
    teacher_valid: Bool[Tensor, "H W"]
    usable: Bool[Tensor, "H W"]
    window: _SourceBox
    index: int

    @classmethod
    def of(cls, raw: RawMaps, index: int, window: _SourceBox) -> "_RawView":
        """View number `index`; `usable` are the valid and finite pixels."""
        points = raw.points_local[index].float()
        local = raw.confidence_local[index].float().clamp(max=LARGEST)
        doubt = raw.confidence_global[index].float().clamp(max=LARGEST)
        own = None if raw.points_global is None else raw.points_global[index].float()
        teacher_valid = torch.ones_like(local, dtype=torch.bool)
        if raw.valid_mask is not None:
            teacher_valid = raw.valid_mask[index]
        usable = teacher_valid & points.isfinite().all(-1) & local.isfinite() & doubt.isfinite()
        if own is not None:
            usable &= own.isfinite().all(-1)
        return cls(points, own, local, doubt, teacher_valid, usable, window, index)

    def read(self, values: Tensor) -> Tensor:
        """A map at the student's size."""
        # Zeros first: a NaN would reach every value that it is mixed with, even by a weight of 0.
        usable = self.usable.reshape(*self.usable.shape, *[1] * (values.ndim - 2))
        return self.window.read(torch.where(usable, values, 0.0))

    def covers(self, mask: Bool[Tensor, "H W"]) -> Bool[Tensor, "h w"]:
        """The targets that are made of pixels of a mask alone."""
        return self.window.read(mask.float()) >= _WHOLLY

    def points(
        self, intrinsics: Float[Tensor, "N 3 3"] | None
    ) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "3 3"] | None]:
        """The local map at the student's size, and its K where the map is depth times ray."""
        if intrinsics is None or self.window.resample == "release":
            return self.read(self.points_local), None
        placement = ImagePlacement(self.window.box, self.window.size)
        placed = place_intrinsics(intrinsics[self.index].float(), placement)
        return unproject(self.read(self.points_local[..., 2]), placed), placed

    def similarity(self, given: Float[Tensor, "N 3 4"] | None) -> Float[Tensor, "3 4"] | None:
        """`[sR | t]` into the anchor's frame, None where there is none."""
        if given is not None:
            return given[self.index].float()
        assert self.own is not None, "a teacher gives similarities or global points"
        return align(self.points_local, self.own, self.confidence_global, self.usable)
