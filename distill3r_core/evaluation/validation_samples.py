"""The validation samples of a run as ground truth: the maps and similarities of its teacher."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.manifest_images import ManifestImages
from distill3r_core.data.loading.sample_sources import read_at
from distill3r_core.evaluation.truth import MILLIMETERS, MIN_POINTS, SourceView, Truth
from distill3r_core.geometry.focal import estimate_focal
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.report import Failure
from distill3r_core.types import ImagePlacement, PreparedView


def read_validation(
    cache: TeacherCache,
    *,
    size: tuple[int, int] | None,
    trained_on: frozenset[str],
    failed: list[Failure],
    label: str = "",
    sources: ManifestImages | None = None,
) -> Iterator[Truth]:
    """The validation samples of a cache, with the teacher's maps as the truth.

    Args:
        label: Name of the cache among several; stands before the names of its samples.
        size: Size of the student's input, landscape; None: that of the cache.
        trained_on: Hashes of images that are left out; who asks counts them.
        failed: Receives the samples that cannot be scored, when they are reached.
        sources: Reads the images that the samples were made of; None: they are not needed.
    """
    for name in cache.names("val"):
        shown = f"{label}:{name}" if label else name
        hashes = cache.detail(name)["pictures"]
        unseen = [view for view, image in enumerate(hashes) if image not in trained_on]
        if not unseen:
            continue
        images, targets = read_at(cache, name, size=size)
        usable = [view for view in unseen if int(targets.valid_mask[view].sum()) >= MIN_POINTS]
        if not usable:
            reason = f"no view has {MIN_POINTS} pixels that are valid in the teacher's maps"
            failed.append(Failure(shown, reason))
            continue
        points, mask = targets.points_local[usable], targets.valid_mask[usable]
        given = targets.intrinsics
        rows, columns = points.shape[1:3]
        whole = ImagePlacement((0.0, 0.0, float(columns), float(rows)), (rows, columns))
        similarities = targets.global_from_local[usable].double()
        placed = targets.local_only is None  # else its views share no frame
        located = poses_of(cache.detail(name), usable)
        yield Truth(
            name=shown,
            world=name if located is None else name.rpartition("/")[0],
            source=label,
            view_names=tuple(f"view {view}" for view in usable),
            views=tuple(
                PreparedView(image, whole, sample=name, index=index)
                for index, image in enumerate(images[usable].float() / 255)
            ),
            points=points,
            mask=mask,
            intrinsics=_estimated(points, mask) if given is None else given[usable],
            poses=rigid_of(similarities) if placed else None,
            unit="m" if cache.header.metric else "none",
            contents=tuple(hashes[view] for view in usable),
            world_poses=located,
            similarities=similarities if placed else None,
            sources=tuple(
                SourceView(view, replace(placement, size=points.shape[1:3]))
                for view, placement in (sources.of(cache, name, usable) if sources else ())
            ),
        )


def poses_of(detail: Any, views: Sequence[int]) -> Float[Tensor, "N 4 4"] | None:
    """Camera poses of a cached sample's views, in meters; None where one is not known."""
    poses, units = detail.get("poses"), detail.get("units")
    if poses is None or units is None or any(poses[view] is None for view in views):
        return None
    found = torch.tensor([poses[view] for view in views], dtype=torch.float64).reshape(-1, 4, 4)
    for row, view in enumerate(views):
        if units[view] == "mm":
            found[row, :3, 3] /= MILLIMETERS
    return found


def _estimated(
    points: Float[Tensor, "N H W 3"], mask: Bool[Tensor, "N H W"]
) -> Float[Tensor, "N 3 3"]:
    """K of maps that come without one: a focal length fitted to them, the center in the middle."""
    _, height, width, _ = points.shape
    intrinsics = torch.eye(3).repeat(len(points), 1, 1)
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = width / 2, height / 2
    focal = estimate_focal(points, mask)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    return intrinsics
