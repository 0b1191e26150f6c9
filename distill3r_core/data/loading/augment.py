"""What may change about a sample without making its targets wrong.

Views may be left out and reordered, and any view may be the anchor: the cached similarities carry
every local map into the new anchor's frame exactly. A mirror image of a scene is a scene. The
colors of an image say nothing about where its points are.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from distill3r_core.data.loading.batches import join_targets
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
