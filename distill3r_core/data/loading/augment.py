"""What may change about a sample without making its targets wrong.

Views may be left out and reordered, and any view may be the anchor: the cached similarities carry
every local map into the new anchor's frame exactly. A mirror image of a scene is a scene. A part
of an image, enlarged, is what a camera of other focal lengths sees. The colors of an image say
nothing about where its points are.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from distill3r_core.data.loading.batches import join_targets
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity, reanchor
from distill3r_core.types import TeacherTargets

# How far colors are moved: factors are drawn between 1 / (1 + x) and 1 + x.
GAIN_SPREAD = 0.15  # each color channel of a view
CONTRAST_SPREAD = 0.3
GAMMA_SPREAD = 0.3
COLOR_FACTORS = 5  # three gains, contrast, gamma


def choose_views(
    available: int, wanted: int | None, *, rng: np.random.Generator | None
) -> tuple[int, ...]:
    """Which views of a sample are shown, the anchor first.

    Args:
        wanted: How many to take; None, or more than there are: all of them.
        rng: For a random subset in random order; None: the first ones as they are cached.
    """
    count = available if wanted is None else min(wanted, available)
    if rng is None:
        return tuple(range(count))
    return tuple(int(view) for view in rng.permutation(available)[:count])


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
        zoom: The smallest part has 1 / zoom of the sides; its logarithm is drawn uniformly.
        aspect: Width and height are stretched against each other by at most this factor.
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
    """The targets of the images that `crop_images` makes: those of the nearest pixels.

    Points of a depth map take its nearest depth, on the rays of the new K; others stay as they are.
    """
    rows, columns = targets.valid_mask.shape[-2:]
    pixels = _nearest(crops, rows, columns)

    def take(values: Tensor) -> Tensor:
        flat = values.flatten(pixels.ndim - 1, pixels.ndim)
        index = pixels.reshape(*pixels.shape, *[1] * (flat.ndim - pixels.ndim))
        return torch.take_along_dim(flat, index, dim=pixels.ndim - 1).reshape(values.shape)

    points, intrinsics = take(targets.points_local), targets.intrinsics
    stored = targets.stored_points_global
    if intrinsics is not None:
        intrinsics = _cropped_intrinsics(intrinsics, crops, rows, columns)
        points = unproject(points[..., 2], intrinsics)
    return replace(
        targets,
        points_local=points,
        confidence_local=take(targets.confidence_local),
        confidence_global=take(targets.confidence_global),
        valid_mask=take(targets.valid_mask),
        stored_points_global=None if stored is None else take(stored),
        intrinsics=intrinsics,
    )


def _nearest(
    crops: Float[Tensor, "*batch 4"], rows: int, columns: int
) -> Int[Tensor, "*batch pixels"]:
    """The source pixel of each pixel of the parts, row by row."""

    def along(size: int, start: Tensor, length: Tensor) -> Tensor:
        centers = (torch.arange(size, device=crops.device) + 0.5) / size
        places = start[..., None] + centers.to(start) * length[..., None]
        return (places * size).floor().long().clamp(0, size - 1)

    down = along(rows, crops[..., 1], crops[..., 3])
    across = along(columns, crops[..., 0], crops[..., 2])
    return (down[..., :, None] * columns + across[..., None, :]).flatten(-2)


def _cropped_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"],
    crops: Float[Tensor, "*batch 4"],
    rows: int,
    columns: int,
) -> Float[Tensor, "*batch 3 3"]:
    moved = intrinsics.clone()
    for axis, size in ((0, columns), (1, rows)):
        moved[..., axis, 2] -= crops[..., axis] * size
        moved[..., axis, :] /= crops[..., 2 + axis, None]
    return moved


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
