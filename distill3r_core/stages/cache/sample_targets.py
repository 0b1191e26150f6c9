"""One sample: its images read, its teacher asked, its targets made."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from distill3r_core.cache.header import CacheHeader
from distill3r_core.data.manifest import Sample
from distill3r_core.data.manifest_views import image_hash, read_view
from distill3r_core.errors import ImageError
from distill3r_core.geometry.camera_alignment import fit_world
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.resample import Box
from distill3r_core.io.images.fit import ImageFit, fit_image, is_portrait
from distill3r_core.io.images.placed_masks import placed_mask
from distill3r_core.stages.cache.sample_plan import fit_of, size_of
from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.targets import CountedTargets, make_targets
from distill3r_core.types import ImagePlacement, PreparedView, RawMaps, TeacherTargets
from distill3r_core.views import METERS


@dataclass(frozen=True)
class TargetRecipe:
    """How a sample becomes targets.

    Args:
        root: Folder that the manifest's paths start from.
        fit: The header's.
        threshold: Threshold of the local confidence.
        export: Further arguments of the export step.
    """

    root: Path
    fit: ImageFit
    threshold: float | None
    export: Mapping[str, Any]

    @classmethod
    def of_cache(cls, header: CacheHeader, root: Path) -> "TargetRecipe":
        """The recipe of a cache's samples.

        Args:
            root: Folder that the manifest's paths start from.
        """
        return cls(root, ImageFit.from_plain(header.fit), header.threshold, header.export)


@dataclass(frozen=True)
class LoadedSample:
    """A sample whose images were read.

    Args:
        sample: Its rows.
        prepared: What the teacher takes.
        placements: Where the student's images lie in the source images.
        images: The student's images.
        masks: Pixels of each source image that count; None where all of them do.
        image_hashes: Hashes of the source images.
    """

    sample: Sample
    prepared: Sequence[PreparedView]
    placements: Sequence[ImagePlacement]
    images: UInt8[Tensor, "N 3 H W"]
    masks: Sequence[Bool[np.ndarray, "_H _W"] | None]
    image_hashes: Sequence[str]


@dataclass(frozen=True)
class _PreparedImages:
    prepared: PreparedView
    placement: ImagePlacement
    image: UInt8[Tensor, "3 H W"]
    mask: Bool[np.ndarray, "H W"] | None
    image_hash: str


def load_sample(
    sample: Sample, teacher: Teacher, recipe: TargetRecipe, pool: Executor
) -> LoadedSample:
    """Read a sample's images and bring them to the teacher's and the student's size.

    Raises:
        ImageError: One of them cannot be used; names it.
    """
    fit = fit_of(recipe.fit, sample.rows)
    portrait = is_portrait([(row.H, row.W) for row in sample.rows])

    def load(index: int) -> _PreparedImages:
        row = sample.rows[index]
        try:
            view = read_view(row, recipe.root, sample=sample.name, index=index)
            fitted = fit_image(view.image, fit, portrait=portrait)
            prepared = teacher.prepare(view)
        except ImageError as error:
            raise ImageError(f"{row.image_path}: {error}") from error
        image = torch.from_numpy(np.ascontiguousarray(fitted.image.transpose(2, 0, 1)))
        return _PreparedImages(prepared, fitted.placement, image, view.mask, image_hash(view.image))

    views = list(pool.map(load, range(len(sample.rows))))
    return LoadedSample(
        sample=sample,
        prepared=[view.prepared for view in views],
        placements=[view.placement for view in views],
        images=torch.stack([view.image for view in views]),
        masks=[view.mask for view in views],
        image_hashes=[view.image_hash for view in views],
    )


def targets_of_sample(loaded: LoadedSample, raw: RawMaps, recipe: TargetRecipe) -> CountedTargets:
    """What the teacher said, at the student's size; nothing where an image is masked."""
    raw = _masked(raw, loaded)
    turned = [placement.transposed for placement in loaded.placements]
    boxes = [
        raw_box(student, view.placement, points.shape[:2])
        for student, view, points in zip(
            loaded.placements, loaded.prepared, raw.points_local, strict=True
        )
    ]
    fit = fit_of(recipe.fit, loaded.sample.rows)
    if any(turned):
        raw = _turn(raw, turned)
        boxes = [
            (top, left, bottom, right) if turn else (left, top, right, bottom)
            for turn, (left, top, right, bottom) in zip(turned, boxes, strict=True)
        ]
    return make_targets(
        raw,
        size=size_of(fit, loaded.sample.rows),
        boxes=boxes,
        threshold=recipe.threshold,
        **recipe.export,
    )


def detail_of(
    loaded: LoadedSample, raw: RawMaps, exported: CountedTargets, root: Path, *, metric: bool
) -> dict[str, Any]:
    """Where a sample came from, and where it lies in the world of its poses, as plain data.

    Args:
        metric: Whether the teacher's points are in meters.
    """
    aligned = {} if raw.alignment is None else {"alignment": asdict(raw.alignment)}
    world = _world_from_anchor(loaded, exported.targets, metric=metric)
    placed = {} if world is None else {"world_from_anchor": world.tolist()}
    return {
        **aligned,
        **placed,
        "dataset": loaded.sample.dataset,
        "scene_id": loaded.sample.scene_id,
        "pictures": list(loaded.image_hashes),
        "root": str(root.absolute()),
        "paths": [row.image_path for row in loaded.sample.rows],
        "contents": [row.content for row in loaded.sample.rows],
        "poses": [row.pose for row in loaded.sample.rows],
        "units": [row.unit for row in loaded.sample.rows],
        "boxes": [placement.box for placement in loaded.placements],
        "left": asdict(exported.rejected),
    }


def _world_from_anchor(
    loaded: LoadedSample, targets: TeacherTargets, *, metric: bool
) -> Float[Tensor, "3 4"] | None:
    """What carries the anchor's frame into the world of the sample's poses, in meters if known.

    None where a view that the teacher placed has no pose, or the poses do not determine it.
    """
    rows = loaded.sample.rows
    placed = [view for view, mask in enumerate(targets.valid_mask) if mask.any()]
    if not placed or any(rows[view].pose is None for view in placed):
        return None
    poses = torch.tensor([rows[view].pose for view in placed], dtype=torch.float64)
    poses = poses.reshape(-1, 4, 4)
    poses[:, :3, 3] *= torch.tensor([[METERS[rows[view].unit]] for view in placed])
    local = targets.global_from_local[placed].double().cpu()
    fixed = 1.0 if metric and all(rows[view].unit != "none" for view in placed) else None
    return fit_world(rigid_of(local), poses, scale=fixed)


def raw_box(student: ImagePlacement, teacher: ImagePlacement, shape: Sequence[int]) -> Box:
    """The part of a raw map that the student sees, in the map's pixels.

    Args:
        student: Place of the student's image in the source image.
        teacher: Place of the teacher's image in the source image.
        shape: Rows and columns of the map, which covers the teacher's image.
    """
    return box_in_map(student.box, teacher.box, shape)


def box_in_map(box: Box, covered: Box, shape: Sequence[int]) -> Box:
    """A box of a source image, in the pixels of a map that covers another box of it.

    Args:
        shape: Rows and columns of the map.
    """
    left, top, right, bottom = covered
    down, across = shape[0] / (bottom - top), shape[1] / (right - left)
    return (
        (box[0] - left) * across,
        (box[1] - top) * down,
        (box[2] - left) * across,
        (box[3] - top) * down,
    )


def _masked(raw: RawMaps, loaded: LoadedSample) -> RawMaps:
    """Raw maps that are valid only where the images are not masked."""
    if all(mask is None for mask in loaded.masks):
        return raw
    valid = []
    for index, (mask, view) in enumerate(zip(loaded.masks, loaded.prepared, strict=True)):
        shape = raw.points_local[index].shape[:2]
        own = torch.ones(shape, dtype=torch.bool)
        if raw.valid_mask is not None:
            own = raw.valid_mask[index]
        if mask is not None:
            own = own & placed_mask(mask, replace(view.placement, size=tuple(shape))).to(own.device)
        valid.append(own)
    return replace(raw, valid_mask=valid)


def _turn(raw: RawMaps, turned: Sequence[bool]) -> RawMaps:
    """Raw maps with rows and columns swapped where the student's image has them swapped."""

    def swap(maps: Sequence[Tensor] | None) -> Any:
        if maps is None:
            return None
        return [m.transpose(0, 1) if turn else m for m, turn in zip(maps, turned, strict=True)]

    intrinsics = raw.intrinsics
    if intrinsics is not None:
        rows = [[1, 0, 2] if turn else [0, 1, 2] for turn in turned]
        intrinsics = torch.stack([k[order] for k, order in zip(intrinsics, rows, strict=True)])
    return replace(
        raw,
        points_local=swap(raw.points_local),
        confidence_local=swap(raw.confidence_local),
        confidence_global=swap(raw.confidence_global),
        points_global=swap(raw.points_global),
        valid_mask=swap(raw.valid_mask),
        intrinsics=intrinsics,
    )
