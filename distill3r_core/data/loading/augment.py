"""What may change about a sample without making its targets wrong.

Views may be left out and reordered, and any view may be the anchor: the cached similarities carry
every local map into the new anchor's frame exactly. A mirror image of a scene is a scene. A part
of an image, enlarged, is what a camera of other focal lengths sees. The colors of an image say
nothing about where its points are.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from distill3r_core.data.loading.batches import join_targets
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity, reanchor
from distill3r_core.types import TeacherTargets

# How far colors are moved: factors are drawn between 1 / (1 + x) and 1 + x.
GAIN_SPREAD = 0.15  # each color channel of a view
CONTRAST_SPREAD = 0.3
GAMMA_SPREAD = 0.3
COLOR_FACTORS = 5  # three gains, contrast, gamma
SURFACE = 0.05  # relative depth by which neighbors on one surface differ at most


def choose_views(
    available: int,
    wanted: int | None,
    *,
    rng: np.random.Generator | None,
    span: int | None = None,
) -> tuple[int, ...]:
    """Which views of a sample are shown, the anchor first.

    Args:
        wanted: How many to take; None, or more than there are: all of them.
        rng: For a random subset in random order; None: the first ones as they are cached.
        span: A random subset is drawn from so many successive views; None: from all.
    """
    count = available if wanted is None else min(wanted, available)
    if rng is None:
        return tuple(range(count))
    if span is None or span >= available:
        return tuple(int(view) for view in rng.permutation(available)[:count])
    start = rng.integers(available - span + 1)
    return tuple(int(view) for view in (start + rng.permutation(span))[:count])


def anchor_first(targets: TeacherTargets) -> TeacherTargets:
    """Targets in the frame of their first view's local map.

    The similarity of the first view becomes the identity, and a global map that is stored on its
    own moves along. `confidence_global` stays as it was seen from the first anchor.
    """
    stored = targets.stored_points_global
    back, similarities = anchored(targets.global_from_local)
    if stored is not None:
        moved = apply_similarity(back.expand_as(similarities), stored)
        stored = torch.where(targets.valid_mask[..., None], moved, 0.0)
    return replace(targets, global_from_local=similarities, stored_points_global=stored)


def anchored(
    global_from_local: Float[Tensor, "*batch N 3 4"],
) -> tuple[Float[Tensor, "*batch 1 3 4"], Float[Tensor, "*batch N 3 4"]]:
    """What carries global points into the first view's own frame, and the similarities there."""
    back = invert_similarity(global_from_local[..., :1, :, :])
    return back, reanchor(global_from_local, 0)


def mirror_images(images: Shaped[Tensor, "*batch H W"]) -> Shaped[Tensor, "*batch H W"]:
    """Left and right swapped."""
    return images.flip(-1)


def mirror_targets(targets: TeacherTargets) -> TeacherTargets:
    """The targets of the mirrored images: x turns its sign in every frame.

    A similarity S becomes M S M with M = diag(-1, 1, 1), which is a similarity again.
    """
    sign = targets.points_local.new_ones(3)
    sign[0] = -1.0  # not from a list: a GPU would be waited for
    moved = targets.global_from_local * sign[:, None]
    moved = torch.cat([moved[..., :3] * sign, moved[..., 3:]], dim=-1)
    stored, intrinsics = targets.stored_points_global, targets.intrinsics
    if intrinsics is not None:
        intrinsics = intrinsics.clone()
        intrinsics[..., 0, 2] = targets.valid_mask.shape[-1] - intrinsics[..., 0, 2]
        # Of an upright camera both are 0; of a transposed map they are the focal lengths.
        intrinsics[..., 0, 1] = -intrinsics[..., 0, 1]
        intrinsics[..., 1, 0] = -intrinsics[..., 1, 0]
    return TeacherTargets(
        points_local=targets.points_local.flip(-2) * sign,
        confidence_local=targets.confidence_local.flip(-1),
        confidence_global=targets.confidence_global.flip(-1),
        valid_mask=targets.valid_mask.flip(-1),
        global_from_local=moved,
        stored_points_global=None if stored is None else stored.flip(-2) * sign,
        intrinsics=intrinsics,
        local_only=targets.local_only,
    )


def draw_crops(
    views: int, rng: np.random.Generator, *, zoom: float, aspect: float
) -> Float[np.ndarray, "N 4"]:
    """Random parts of the views, each on its own: left, top, width and height, of the image's.

    Args:
        zoom: Sides are from 1 / zoom to all of the image's; the logarithm is drawn uniformly.
        aspect: They are then stretched against each other by at most this factor.
    """
    part = zoom ** -rng.uniform(0.0, 1.0, views)
    stretch = aspect ** rng.uniform(-0.5, 0.5, views)
    sides = np.minimum(np.stack([part * stretch, part / stretch], axis=1), 1.0)
    corners = rng.uniform(0.0, 1.0, (views, 2)) * (1 - sides)
    return np.concatenate([corners, sides], axis=1).astype(np.float32)


def crop_images(
    images: UInt8[Tensor, "*batch 3 H W"], crops: Float[Tensor, "*batch 4"]
) -> UInt8[Tensor, "*batch 3 H W"]:
    """The parts that `draw_crops` names at the size of the whole, bilinear."""
    corner, sides = crops[..., :2], crops[..., 2:]
    # From pixels of the result to those of the source, both from -1 to 1 over the image.
    affine = torch.cat([torch.diag_embed(sides), (2 * corner + sides - 1)[..., None]], dim=-1)
    flat = images.flatten(0, -4).float()
    grid = functional.affine_grid(
        affine.flatten(0, -3), [len(flat), *flat.shape[1:]], align_corners=False
    )
    shown = functional.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return shown.round().to(torch.uint8).reshape(images.shape)


def crop_targets(targets: TeacherTargets, crops: Float[Tensor, "*batch 4"]) -> TeacherTargets:
    """The targets of the images that `crop_images` makes.

    Points are bilinear on a surface and those of the nearest pixel at its rims; points of a depth
    map lie on the rays of the new K. Confidence and mask are those of the nearest pixel.
    """
    rows, columns = targets.valid_mask.shape[-2:]
    down, across = _places(crops, rows, columns)
    nearest = _pixels(down.round().long(), across.round().long(), columns)
    blend = _Blend.of(targets, down, across)
    points, intrinsics = blend(targets.points_local, nearest), targets.intrinsics
    stored = targets.stored_points_global
    if intrinsics is not None:
        intrinsics = intrinsics.clone()
        for axis, size in ((0, columns), (1, rows)):
            intrinsics[..., axis, 2] -= crops[..., axis] * size
            intrinsics[..., axis, :] /= crops[..., 2 + axis, None]
        points = points[..., 2:] * closed_form_rays(intrinsics, rows, columns)
    return replace(
        targets,
        points_local=points,
        confidence_local=_take(targets.confidence_local, nearest),
        confidence_global=_take(targets.confidence_global, nearest),
        valid_mask=_take(targets.valid_mask, nearest),
        stored_points_global=None if stored is None else blend(stored, nearest),
        intrinsics=intrinsics,
    )


def _places(
    crops: Float[Tensor, "*batch 4"], rows: int, columns: int
) -> tuple[Float[Tensor, "*batch H"], Float[Tensor, "*batch W"]]:
    """Rows and columns of the source at the middles of the result's pixels; 0 is a middle."""

    def along(size: int, start: Tensor, length: Tensor) -> Tensor:
        middles = (torch.arange(size, device=start.device, dtype=start.dtype) + 0.5) / size
        places = (start[..., None] + middles * length[..., None]) * size - 0.5
        return places.clamp(0, size - 1)

    return along(rows, crops[..., 1], crops[..., 3]), along(columns, crops[..., 0], crops[..., 2])


def _pixels(
    down: Int[Tensor, "*batch H"], across: Int[Tensor, "*batch W"], columns: int
) -> Int[Tensor, "*batch pixels"]:
    """Numbers of the source's pixels, row by row."""
    return (down[..., :, None] * columns + across[..., None, :]).flatten(-2)


def _take(
    values: Shaped[Tensor, "*values"], pixels: Int[Tensor, "*batch pixels"]
) -> Shaped[Tensor, "*values"]:
    """The values at pixels of maps (*batch H W, with or without channels)."""
    flat = values.flatten(pixels.ndim - 1, pixels.ndim)
    index = pixels.reshape(*pixels.shape, *[1] * (flat.ndim - pixels.ndim))
    return torch.take_along_dim(flat, index, dim=pixels.ndim - 1).reshape(values.shape)


@dataclass(frozen=True)
class _Blend:
    """The four source pixels around each pixel of the result, and where they are one surface."""

    corners: tuple[tuple[Int[Tensor, "*batch pixels"], Float[Tensor, "*batch H W 1"]], ...]
    on_surface: Bool[Tensor, "*batch H W 1"]

    @classmethod
    def of(
        cls,
        targets: TeacherTargets,
        down: Float[Tensor, "*batch H"],
        across: Float[Tensor, "*batch W"],
    ) -> "_Blend":
        rows, columns = targets.valid_mask.shape[-2:]
        top, left = down.floor(), across.floor()
        corners, depths, known = [], [], []
        for lower, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            pixels = _pixels(
                (top + lower).clamp(max=rows - 1).long(),
                (left + right).clamp(max=columns - 1).long(),
                columns,
            )
            share_down = (down - top) if lower else 1 - (down - top)
            share_across = (across - left) if right else 1 - (across - left)
            corners.append(
                (pixels, (share_down[..., :, None] * share_across[..., None, :])[..., None])
            )
            depths.append(_take(targets.points_local[..., 2], pixels))
            known.append(_take(targets.valid_mask, pixels))
        depth = torch.stack(depths)
        near, far = depth.amin(0), depth.amax(0)
        smooth = torch.stack(known).all(0) & (far - near < SURFACE * near.abs())
        return cls(tuple(corners), smooth[..., None])

    def __call__(
        self, points: Float[Tensor, "*batch H W 3"], nearest: Int[Tensor, "*batch pixels"]
    ) -> Float[Tensor, "*batch H W 3"]:
        mixed = sum(weight.to(points) * _take(points, pixels) for pixels, weight in self.corners)
        return torch.where(self.on_surface, mixed, _take(points, nearest))


def closed_form_rays(
    intrinsics: Float[Tensor, "*batch 3 3"], rows: int, columns: int
) -> Float[Tensor, "*batch H W 3"]:
    """Points of z = 1 at the middles of pixels; in closed form, as a GPU waits for an inverse."""
    a, b, c, d = (intrinsics[..., i, j, None, None] for i in (0, 1) for j in (0, 1))
    down = torch.arange(rows, device=a.device, dtype=a.dtype)[:, None] + 0.5
    across = torch.arange(columns, device=a.device, dtype=a.dtype) + 0.5
    u, v = across - intrinsics[..., 0, 2, None, None], down - intrinsics[..., 1, 2, None, None]
    u, v = torch.broadcast_tensors(u, v)
    whole = a * d - b * c
    return torch.stack(
        [(d * u - b * v) / whole, (a * v - c * u) / whole, torch.ones_like(u)], dim=-1
    )


def choose_targets(
    which: Bool[Tensor, "B"], chosen: TeacherTargets, others: TeacherTargets
) -> TeacherTargets:
    """Samples of `chosen` where `which` is true, else those of `others`."""
    return join_targets([chosen, others], lambda pair: where_rows(which, pair[0], pair[1]))


def where_rows(
    which: Bool[Tensor, "B"], chosen: Shaped[Tensor, "B *rest"], others: Shaped[Tensor, "B *rest"]
) -> Shaped[Tensor, "B *rest"]:
    """The rows of `chosen` where `which` says so, else those of `others`."""
    return torch.where(which.reshape(-1, *[1] * (chosen.ndim - 1)), chosen, others)


def draw_colors(views: int, rng: np.random.Generator) -> Float[np.ndarray, "N 5"]:
    """Random factors for the colors of each view: gains of red, green and blue, contrast, gamma."""
    spread = np.array([GAIN_SPREAD] * 3 + [CONTRAST_SPREAD, GAMMA_SPREAD])
    exponent = rng.uniform(-1.0, 1.0, (views, COLOR_FACTORS))
    return ((1.0 + spread) ** exponent).astype(np.float32)


def unit_images(
    images: UInt8[Tensor, "*batch 3 H W"], colors: Float[Tensor, "*batch 5"] | None = None
) -> Float[Tensor, "*batch 3 H W"]:
    """Images in [0, 1], with their colors changed by the factors of `draw_colors`, if given."""
    unit = images.float() / 255.0
    if colors is None:
        return unit
    gains, contrast, gamma = colors[..., :3], colors[..., 3], colors[..., 4]
    unit = unit.pow(gamma[..., None, None, None])
    middle = unit.mean((-3, -2, -1), keepdim=True)
    unit = middle + (unit - middle) * contrast[..., None, None, None]
    return (unit * gains[..., None, None]).clamp(0.0, 1.0)
