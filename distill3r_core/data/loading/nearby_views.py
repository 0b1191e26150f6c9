"""Views as a camera nearby would have taken them: image and targets, by the teacher's own depth.

A student of one scene that sees it along one path alone knows little of what lies beside it. Where
each pixel's depth is known, what a camera a little off the path sees is known, too, but for what
was hidden; no new label is needed.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from distill3r_core.data.loading.augment import SURFACE, closed_form_rays
from distill3r_core.geometry.cameras import project
from distill3r_core.geometry.similarity import apply_similarity, compose
from distill3r_core.types import TeacherTargets

# A point covers the four pixels around it but those of which it has next to nothing: a camera that
# does not move sees each pixel where it was.
_COVERED = 0.02
# Points whose depth falls below this share of what it was leave holes, of so many pixels from them.
_ENLARGED, _HOLES = 0.7, 1
_ROUNDS = 3  # of finding the surface along a ray; the error of each is a share of that before
_NEAREST = 0.02  # share of the pixels that are what is nearest; single ones may be wrong
_CLOSEST = 0.05  # share of the median depth; what is nearer, or behind, is not seen
_AGREES = 0.02  # share of the depth that a pixel may differ by from the surface that it sees
_AHEAD = 1e-6  # keeps the projection of what lies behind a camera finite


def draw_motions(
    views: int, rng: np.random.Generator, *, turn: float, shift: float
) -> Float[np.ndarray, "N 3 4"]:
    """Random cameras nearby: `[R | t]` from the frame of the new camera into that of the view's.

    Args:
        turn: Degrees that a camera is turned by, at most, about any axis; drawn uniformly.
        shift: How far it is moved, at most, in any direction, as a share of the median depth that
            the view sees; drawn uniformly. `t` is in this unit.
    """
    axes, directions = (_on_sphere(rng.normal(size=(views, 3))) for _ in range(2))
    angles, lengths = (rng.uniform(0.0, most, (views, 1)) for most in (np.radians(turn), shift))
    rotations = Rotation.from_rotvec(axes * angles).as_matrix()
    return np.concatenate([rotations, (directions * lengths)[..., None]], -1).astype(np.float32)


def _on_sphere(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def see_from(
    images: UInt8[Tensor, "*batch 3 H W"],
    targets: TeacherTargets,
    motions: Float[Tensor, "*batch 3 4"],
    *,
    anchored: bool = False,
) -> tuple[UInt8[Tensor, "*batch 3 H W"], TeacherTargets]:
    """What cameras nearby see of views with depth maps.

    Args:
        targets: With `intrinsics`, which the new cameras share.
        motions: See `draw_motions`. Shifts are cut to half of the way to what is nearest: the depth
            that a fiftieth of the valid pixels are at most.
        anchored: The first view's camera is the common frame, and its new camera becomes it; else
            that frame, of a scene, stays.

    Returns:
        The images, bilinear; what the view does not show has a mean of the colors around it. The
        targets in the frames of the new cameras: points lie on the rays of the pixels, and the
        mask is where a valid pixel of the view is seen.
    """
    assert targets.intrinsics is not None and targets.stored_points_global is None
    lead = images.shape[:-3]
    mask, intrinsics = targets.valid_mask.flatten(0, -3), targets.intrinsics.flatten(0, -3)
    depth = targets.points_local[..., 2].flatten(0, -3)
    nearest, middle = _depths(depth, mask)
    motion = _in_unit_of_depth(motions.flatten(0, -3).to(depth), nearest, middle)
    filled = fill_unknown(depth[:, None], mask[:, None])[:, 0]
    filled = torch.where(filled > 0, filled, middle)  # a view without any depth is a plane
    sight = _look(filled, mask, intrinsics, motion, _CLOSEST * middle)
    valid = sight.seen & _nearest(mask, sight.grid)

    def confidence(values: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
        moved = torch.where(valid, _nearest(values.flatten(0, -3), sight.grid), 1.0)
        return moved.reshape(values.shape)

    similarities = compose(
        targets.global_from_local, motion.reshape(targets.global_from_local.shape)
    )
    if anchored:
        similarities = _first_as_frame(similarities)
    if targets.local_only is not None:  # that of a view without a place says nothing
        alone = targets.local_only[..., None, None]
        similarities = torch.where(alone, targets.global_from_local, similarities)
    points = closed_form_rays(intrinsics, *mask.shape[1:]) * sight.depth[..., None]
    points = torch.where(valid[..., None], points, 0.0)
    return _images(images.flatten(0, -4), sight).reshape(images.shape), replace(
        targets,
        points_local=points.reshape(targets.points_local.shape),
        confidence_local=confidence(targets.confidence_local),
        confidence_global=confidence(targets.confidence_global),
        valid_mask=valid.reshape(*lead, *valid.shape[1:]),
        global_from_local=similarities,
    )


def _depths(
    depth: Float[Tensor, "V H W"], mask: Bool[Tensor, "V H W"]
) -> tuple[Float[Tensor, "V 1 1"], Float[Tensor, "V 1 1"]]:
    """What is nearest in each view, and the median; 1 in views without depth."""
    ordered = torch.where(mask, depth, torch.inf).flatten(1).sort(dim=-1).values
    last = (mask.sum((-2, -1)) - 1).clamp(min=0)[:, None]
    found = [ordered.gather(1, (share * last).long()) for share in (_NEAREST, 0.5)]
    nearest, middle = (torch.where(one.isfinite(), one, 1.0)[..., None] for one in found)
    return nearest, middle


def _in_unit_of_depth(
    motion: Float[Tensor, "V 3 4"],
    nearest: Float[Tensor, "V 1 1"],
    middle: Float[Tensor, "V 1 1"],
) -> Float[Tensor, "V 3 4"]:
    """Motions whose shift is a share of the middle depth, cut to half of the nearest."""
    shift = motion[..., 3:] * middle
    length = shift.norm(dim=-2, keepdim=True).clamp(min=_AHEAD)
    return torch.cat([motion[..., :3], shift * (0.5 * nearest / length).clamp(max=1)], dim=-1)


def _first_as_frame(poses: Float[Tensor, "*batch N 3 4"]) -> Float[Tensor, "*batch N 3 4"]:
    """Similarities into the first view's frame."""
    first = poses[..., :1, :, :]
    moved = compose(_inverse(first).expand_as(poses), poses)
    itself = torch.eye(3, 4, dtype=poses.dtype, device=poses.device).expand_as(first)
    return torch.cat([itself, moved[..., 1:, :, :]], dim=-3)


def _images(images: UInt8[Tensor, "V 3 H W"], sight: "_Sight") -> UInt8[Tensor, "V 3 H W"]:
    colors = functional.grid_sample(
        images.to(sight.grid), sight.grid, padding_mode="border", align_corners=False
    )
    return fill_unknown(colors, sight.seen[:, None]).round().to(torch.uint8)


def fill_unknown(
    values: Float[Tensor, "V C H W"], known: Bool[Tensor, "V 1 H W"]
) -> Float[Tensor, "V C H W"]:
    """Unknown pixels as a mean of known ones around them, the nearer the finer: pull and push.

    Gortler et al., The Lumigraph, 1996, with means of 2x2 pixels. Zero where nothing is known.
    """
    kept = torch.where(known, values, 0.0)
    if min(values.shape[-2:]) == 1:
        total = known.sum((-2, -1), keepdim=True)
        mean = kept.sum((-2, -1), keepdim=True) / total.clamp(min=1)
        return torch.where(known, values, mean)
    share = functional.avg_pool2d(known.to(values), 2, ceil_mode=True)
    mean = functional.avg_pool2d(kept, 2, ceil_mode=True) / torch.where(share > 0, share, 1.0)
    coarse = fill_unknown(mean, share > 0)
    smooth = functional.interpolate(coarse, values.shape[-2:], mode="bilinear")
    return torch.where(known, values, smooth)


@dataclass(frozen=True)
class _Sight:
    """Which place of a view each pixel of a camera nearby sees.

    Args:
        depth: Of the new camera's pixels; any positive number where nothing is seen.
        seen: Where the view shows what is there.
        grid: Places in the view, from -1 to 1 over the image, as `grid_sample` reads them.
    """

    depth: Float[Tensor, "V H W"]
    seen: Bool[Tensor, "V H W"]
    grid: Float[Tensor, "V H W 2"]


def _look(
    depth: Float[Tensor, "V H W"],
    mask: Bool[Tensor, "V H W"],
    intrinsics: Float[Tensor, "V 3 3"],
    motion: Float[Tensor, "V 3 4"],
    near: Float[Tensor, "V 1 1"],
) -> _Sight:
    """What is seen of a view whose depth is known or filled; the mask says where it is known.

    What is nearest along each ray is known to a pixel from where the view's points fall. From
    there the surface is looked up in the view's own depth, a few times, as the places get exact.

    Args:
        motion: From the new camera's frame into the view's.
        near: Depth up to which nothing is seen.
    """
    rows, columns = depth.shape[1:]
    rays, back = closed_form_rays(intrinsics, rows, columns), _inverse(motion)
    guess = _nearest_depth(apply_similarity(back, rays * depth[..., None]), depth, intrinsics, near)
    reached = guess.isfinite()
    sight = _Sight(torch.where(reached, guess, near), reached, torch.zeros_like(rays[..., :2]))
    for _ in range(_ROUNDS):
        there = apply_similarity(motion, rays * sight.depth[..., None])
        ahead = there[..., 2:].clamp(min=_AHEAD)
        places = project(torch.cat([there[..., :2], ahead], dim=-1), intrinsics)
        # By numbers one by one: from a list of them, a GPU would be waited for.
        across, down = places.unbind(-1)
        grid = torch.stack([across * (2 / columns) - 1, down * (2 / rows) - 1], dim=-1)
        surface = _surface_depth(depth, mask, grid)[..., None]
        met = apply_similarity(back, there * (surface / ahead))[..., 2]
        agrees = ((ahead - surface).abs() < _AGREES * surface)[..., 0]
        inside = (grid.abs() <= 1).all(-1)
        sight = _Sight(torch.maximum(met, near), reached & agrees & inside & (met > near), grid)
    return sight


def _nearest_depth(
    points: Float[Tensor, "V H W 3"],
    before: Float[Tensor, "V H W"],
    intrinsics: Float[Tensor, "V 3 3"],
    near: Float[Tensor, "V 1 1"],
) -> Float[Tensor, "V H W"]:
    """Depth of the nearest point at each pixel, of points in the camera's frame; else infinite.

    Between points that the camera has come near to there are holes, of pixels that would see what
    is behind: each such point hides what is around it.

    Args:
        before: Depth of the points in the view that they were taken from.
    """
    enlarged = points[..., 2] < _ENLARGED * before
    whole = _splat(points, torch.ones_like(enlarged), intrinsics, near)
    close = _splat(points, enlarged, intrinsics, near)
    around = -functional.max_pool2d(-close, 2 * _HOLES + 1, stride=1, padding=_HOLES)
    return torch.minimum(whole, around)


def _splat(
    points: Float[Tensor, "V H W 3"],
    counted: Bool[Tensor, "V H W"],
    intrinsics: Float[Tensor, "V 3 3"],
    near: Float[Tensor, "V 1 1"],
) -> Float[Tensor, "V H W"]:
    """Least depth of the points that cover a pixel; infinite where none does."""
    count, rows, columns = points.shape[:3]
    depth = points[..., 2]
    ahead = counted & (depth > near)
    places = torch.where(ahead[..., None], project(points, intrinsics) - 0.5, -2.0)
    corner = places.floor()
    found = depth.new_full((count, rows * columns + 1), torch.inf)  # the last: outside
    for down in (0, 1):
        for across in (0, 1):
            column, row = corner[..., 0] + across, corner[..., 1] + down
            covered = (1 - (places[..., 0] - column).abs()) * (1 - (places[..., 1] - row).abs())
            shown = ahead & (covered > _COVERED) & (column >= 0) & (column < columns)
            shown &= (row >= 0) & (row < rows)
            index = torch.where(shown, row * columns + column, float(rows * columns)).long()
            found.scatter_reduce_(1, index.flatten(1), depth.flatten(1), "amin")
    return found[:, :-1].reshape(count, rows, columns)


def _surface_depth(
    depth: Float[Tensor, "V H W"], mask: Bool[Tensor, "V H W"], grid: Float[Tensor, "V H W 2"]
) -> Float[Tensor, "V H W"]:
    """Depth of the view at places: bilinear on a surface, at its rims that of the nearest pixel."""
    whole = torch.stack([depth, mask.to(depth)], dim=1)
    smooth, known = functional.grid_sample(
        whole, grid, padding_mode="border", align_corners=False
    ).unbind(1)
    nearest = _nearest(depth, grid)
    # Between pixels that are known, or between pixels that are not: there it is filled smoothly.
    alike = (known < 1e-3) | (known > 1 - 1e-3)
    return torch.where(alike & ((smooth - nearest).abs() < SURFACE * nearest), smooth, nearest)


def _nearest(
    values: Shaped[Tensor, "V H W"], grid: Float[Tensor, "V H W 2"]
) -> Shaped[Tensor, "V H W"]:
    """The values at the pixels that places lie in."""
    rows, columns = values.shape[1:]
    across, down = grid.unbind(-1)
    column = ((across + 1) * columns / 2).floor().clamp(0, columns - 1)
    row = ((down + 1) * rows / 2).floor().clamp(0, rows - 1)
    pixels = (row * columns + column).long()
    return values.flatten(1).gather(1, pixels.flatten(1)).reshape(values.shape)


def _inverse(similarity: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3 4"]:
    """In closed form: to invert on a GPU is to wait for it."""
    linear = similarity[..., :3]
    back = linear.mT / (linear.square().sum((-2, -1), keepdim=True) / 3)
    return torch.cat([back, -back @ similarity[..., 3:]], dim=-1)
