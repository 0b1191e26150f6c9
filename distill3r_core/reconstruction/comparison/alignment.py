"""The similarity between two reconstructions of the same images, and what it leaves over."""

import contextlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity, scale_of
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.point_cloud import CleanCloud
from distill3r_core.reconstruction.reconstruction import PosedView, Reconstruction
from distill3r_core.reconstruction.view_maps import confident_pixels, finite_pixels

# Rounds of reweighting: points that are far off, as at the edges of things, must not decide.
_ROUNDS = 10
_LEAST_SHARE = 1e-3  # of a point's depth, below which a residual weighs no more
_HALF_WEIGHT = 2.0  # medians of the residuals at which a point has half the weight
_DRAWS, _DRAWN, _JUDGED = 64, 4, 2000  # starts, points of each, points that judge them
_MOST_POINTS = 200_000  # that the similarity is fitted to; the residual is of all


@dataclass(frozen=True)
class ComparedViews:
    """How two reconstructions of the same images agree.

    Args:
        similarity: `[sR | t]`, which carries the other reconstruction into the world of the first.
        views: Names of the views that both have placed.
        pixels: Pixels of these views that both see and neither is unsure of.
        residual: Median distance between their points, as a share of the first one's depth.
        residual_mean: Mean of that.
        within: Share of these points that are nearer to each other than a tenth of their depth.
        degrees: Median angle between the cameras of a view.
        centers: Median distance between them, as a share of the view's median depth.
    """

    similarity: Float[np.ndarray, "3 4"]
    views: tuple[str, ...]
    pixels: int
    residual: float
    residual_mean: float
    within: float
    degrees: float
    centers: float

    @property
    def scale(self) -> float:
        """Length of the first reconstruction over that of the other."""
        return float(scale_of(torch.from_numpy(self.similarity)))

    def as_plain(self) -> dict[str, object]:
        """Plain data for a record."""
        return {
            "views": list(self.views),
            "pixels": self.pixels,
            "residual_share": self.residual,
            "residual_mean_share": self.residual_mean,
            "within_tenth": self.within,
            "pose_degrees": self.degrees,
            "pose_distance_share": self.centers,
            "scale": self.scale,
            "similarity": self.similarity.tolist(),
        }


@dataclass(frozen=True)
class _Pairs:
    """Points of two reconstructions that are seen at the same places of the same images."""

    mine: Float[np.ndarray, "M 3"]
    others: Float[np.ndarray, "M 3"]
    depth: Float[np.ndarray, "M"]  # of the first, in its camera


def align_reconstructions(mine: Reconstruction, other: Reconstruction) -> ComparedViews:
    """The similarity that carries `other` into the world of `mine`.

    Points that are seen at the same pixels are carried onto each other, distances as shares of
    their depth, by least squares reweighted with Cauchy's weights (a sum of distances would be
    smallest at scale 0 where many points are far off); pixels whose confidence is among the lowest
    tenth of either view are left out.

    Raises:
        GeometryError: They have placed no view in common, or its points determine no similarity.
    """
    theirs = {view.camera.name: view for view in other.views}
    common = [(view, theirs[view.camera.name]) for view in mine.views if view.camera.name in theirs]
    if not common:
        raise GeometryError("the two models have placed no view in common")
    parts = [_pairs_of(mine, other, *views) for views in common]
    pairs = _Pairs(
        np.concatenate([part.mine for part in parts]),
        np.concatenate([part.others for part in parts]),
        np.concatenate([part.depth for part in parts]),
    )
    similarity = _fitted(pairs)
    moved = apply_similarity(torch.from_numpy(similarity), torch.from_numpy(pairs.others)).numpy()
    shares = np.linalg.norm(moved - pairs.mine, axis=1) / pairs.depth
    degrees, centers = zip(*(_pose_errors(similarity, *views) for views in common), strict=True)
    return ComparedViews(
        similarity=similarity,
        views=tuple(view.camera.name for view, _ in common),
        pixels=len(shares),
        residual=float(np.median(shares)),
        residual_mean=float(shares.mean()),
        within=float((shares < 0.1).mean()),
        degrees=float(np.median(degrees)),
        centers=float(np.median(centers)),
    )


def _pairs_of(
    mine: Reconstruction, other: Reconstruction, view: PosedView, twin: PosedView
) -> _Pairs:
    """Points of one view: each pixel of mine with that of the other's map that it falls into."""
    here, there = mine.map_of(view), other.map_of(twin)
    places = full_size_pixels(view.loaded.fitted.placement)
    left, top, right, bottom = twin.loaded.fitted.placement.box
    height, width = twin.loaded.fitted.placement.size
    columns = np.floor((places[..., 0] - left) / (right - left) * width).astype(np.int64)
    rows = np.floor((places[..., 1] - top) / (bottom - top) * height).astype(np.int64)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    counted = inside & _usable(view, mine) & _usable(twin, other)[rows, columns]
    pose = view.camera.world_from_cam
    depth = (here.points - pose[:3, 3]) @ pose[:3, 2]
    counted &= depth > 0
    return _Pairs(
        here.points[counted].astype(np.float64),
        there.points[rows, columns][counted].astype(np.float64),
        depth[counted].astype(np.float64),
    )


def _usable(view: PosedView, scene: Reconstruction) -> Bool[np.ndarray, "H W"]:
    points = scene.map_of(view)
    usable = finite_pixels(points)
    if usable.any():
        usable &= confident_pixels(points)
    return usable if view.loaded.mask is None else usable & view.loaded.mask


def _fitted(pairs: _Pairs) -> Float[np.ndarray, "3 4"]:
    """Raises GeometryError where the points determine no similarity."""
    step = max(1, len(pairs.depth) // _MOST_POINTS)
    source, target = torch.from_numpy(pairs.others[::step]), torch.from_numpy(pairs.mine[::step])
    depth = torch.from_numpy(pairs.depth[::step])
    similarity = _start(source, target, depth)
    for _ in range(_ROUNDS):
        off = (apply_similarity(similarity, source) - target).norm(dim=-1) / depth
        width = (_HALF_WEIGHT * off.median()).clamp(min=_LEAST_SHARE)
        weights = 1 / ((1 + (off / width).square()) * depth.square())
        similarity = fit_similarity(source, target, weights)
    return similarity.numpy()


def _start(
    source: Float[Tensor, "M 3"], target: Float[Tensor, "M 3"], depth: Float[Tensor, "M"]
) -> Float[Tensor, "3 4"]:
    """Of the least squares over all points and those over few drawn ones, the one that fits most.

    Points that are many times too far away pull the least squares over all to a scale from which
    reweighting does not come back.
    """
    draw = torch.Generator().manual_seed(0)
    found = [fit_similarity(source, target, depth.square().reciprocal())]
    judged = torch.randint(len(source), (_JUDGED,), generator=draw)
    for chosen in torch.randint(len(source), (_DRAWS, _DRAWN), generator=draw):
        with contextlib.suppress(GeometryError):  # points on a line
            found.append(
                fit_similarity(source[chosen], target[chosen], torch.ones(_DRAWN).double())
            )
    off = [
        (apply_similarity(each, source[judged]) - target[judged]).norm(dim=-1) / depth[judged]
        for each in found
    ]
    return found[min(range(len(found)), key=lambda index: float(off[index].median()))]


def _pose_errors(
    similarity: Float[np.ndarray, "3 4"], view: PosedView, twin: PosedView
) -> tuple[float, float]:
    """Angle in degrees, and distance over the median depth, between two cameras of one view."""
    mine, other = view.camera.world_from_cam, twin.camera.world_from_cam
    rotation = similarity[:, :3] / np.cbrt(np.linalg.det(similarity[:, :3]))
    turned = (rotation @ other[:3, :3]).T @ mine[:3, :3]
    cosine = np.clip((np.trace(turned) - 1) / 2, -1, 1)
    center = similarity[:, :3] @ other[:3, 3] + similarity[:, 3]
    depth = view.depth[np.isfinite(view.depth) & (view.depth > 0)]
    typical = float(np.median(depth)) if depth.size else 1.0
    return float(np.degrees(np.arccos(cosine))), float(
        np.linalg.norm(center - mine[:3, 3]) / typical
    )


def moved_reconstruction(
    scene: Reconstruction, similarity: Float[np.ndarray, "3 4"]
) -> Reconstruction:
    """The same reconstruction in the frame and unit that a similarity leads to."""
    scale = np.cbrt(np.linalg.det(similarity[:, :3]))
    views = []
    for view in scene.views:
        pose = view.camera.world_from_cam.copy()
        pose[:3, 3] = similarity[:, :3] @ pose[:3, 3] + similarity[:, 3]
        pose[:3, :3] = similarity[:, :3] / scale @ pose[:3, :3]
        points = replace(view.global_map, points=_moved(view.global_map.points, similarity))
        aligned = view.aligned
        if aligned is not None:
            whole = similarity[:, :3] @ aligned.world_from_local
            whole[:, 3] += similarity[:, 3]
            aligned = replace(aligned, world_from_local=whole)
        camera = replace(view.camera, world_from_cam=pose)
        views.append(replace(view, global_map=points, aligned=aligned, camera=camera))
    return replace(scene, views=tuple(views))


def moved_cloud(cleaned: CleanCloud, similarity: Float[np.ndarray, "3 4"]) -> CleanCloud:
    """The same cloud there."""
    points = _moved(cleaned.cloud.points, similarity)
    return replace(cleaned, cloud=replace(cleaned.cloud, points=points))


def _moved(
    points: Float[np.ndarray, "*batch 3"], similarity: Float[np.ndarray, "3 4"]
) -> Float[np.ndarray, "*batch 3"]:
    return (points @ similarity[:, :3].T + similarity[:, 3]).astype(np.float32)
