"""Rendered rooms with exact targets, and a teacher whose error grows as its confidence falls."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.similarity import compose, invert_similarity
from distill3r_core.scenes import render_scene
from distill3r_core.types import TeacherTargets

THRESHOLD = 0.3  # on C - 1, as for every network teacher

# Relative depth error of the teacher: constant, with the square of depth, and at edges.
FLOOR, FAR, EDGE = 0.005, 0.01, 0.06
FAR_DEPTH = 4.0  # meters at which distance adds `FAR`
EDGE_BREAK = 0.1  # relative break of inverse depth from which the full `EDGE` is added
# Probability of outliers: everywhere, at edges, far away; and their spread (log of depth).
OUTLIERS, EDGE_OUTLIERS, FAR_OUTLIERS = 0.002, 0.10, 0.03
OUTLIER_SPREAD = 0.3
COARSE = (
    6,
    8,
)  # cells of the smooth part of the error: networks err over surfaces, not single pixels
SMOOTH_SHARE = 0.7
CONFIDENCE = 0.15  # C - 1 where the expected error is 100 %
CONFIDENCE_NOISE = 0.2  # deviation of log(C - 1): the teacher does not know its error exactly


@dataclass(frozen=True)
class TrueScene:
    """A rendered room."""

    images: UInt8[Tensor, "N 3 H W"]  # RGB images of all views
    depth: Float[Tensor, "N H W"]  # exact depth in meters
    targets: TeacherTargets  # exact targets; the first view is the anchor


def true_scene(seed: int, views: int, size: tuple[int, int]) -> TrueScene:
    """Render a procedural room from cameras on an arc."""
    scene = render_scene(seed, views, size)
    poses = scene.world_from_cam[:, :3]
    back = invert_similarity(poses[:1]).expand_as(poses)
    ones = torch.ones_like(scene.depth)
    targets = TeacherTargets(
        points_local=unproject(scene.depth, scene.intrinsics),
        confidence_local=2 * ones,
        confidence_global=2 * ones,
        valid_mask=ones.bool(),
        global_from_local=compose(back, poses),
    )
    images = (255 * scene.images).round().to(torch.uint8)
    return TrueScene(images, scene.depth, targets)


def noisy_targets(scene: TrueScene, *, seed: int) -> TeacherTargets:
    """Targets of an imperfect teacher.

    Depths are wrong along their rays, by smooth and by independent errors that grow at edges and
    with distance, where there are also outliers. The confidence falls as the expected error grows:
    it is right on average, but not exactly.
    """
    generator = torch.Generator().manual_seed(seed)
    depth = scene.depth
    edge = (_edges(depth) / EDGE_BREAK).clamp(max=1.0)
    far = (depth / FAR_DEPTH).square()
    spread = FLOOR + FAR * far + EDGE * edge
    chance = (OUTLIERS + EDGE_OUTLIERS * edge + FAR_OUTLIERS * far.clamp(max=1.0)).clamp(max=1.0)

    def normal() -> Tensor:
        return torch.randn(depth.shape, generator=generator)

    coarse = torch.randn(len(depth), 1, *COARSE, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, depth.shape[1:], mode="bilinear")[:, 0]
    unit = SMOOTH_SHARE**0.5 * smooth + (1 - SMOOTH_SHARE) ** 0.5 * normal()
    hit = torch.rand(depth.shape, generator=generator) < chance
    log_error = spread * unit + torch.where(hit, OUTLIER_SPREAD * normal(), 0.0)
    expected = (spread.square() + chance * OUTLIER_SPREAD**2).sqrt()
    confidence = 1 + CONFIDENCE / expected * (CONFIDENCE_NOISE * normal()).exp()
    mask = confidence - 1 > THRESHOLD
    exact = scene.targets
    return TeacherTargets(
        points_local=torch.where(
            mask[..., None], exact.points_local * log_error.exp()[..., None], 0.0
        ),
        confidence_local=confidence,
        confidence_global=confidence,
        valid_mask=mask,
        global_from_local=exact.global_from_local,
    )


def _edges(depth: Float[Tensor, "N H W"]) -> Float[Tensor, "N H W"]:
    """Relative break of inverse depth, the maximum over the 3 x 3 pixels around each.

    Inverse depth is linear in the image on every plane: its second differences respond to edges
    and not to slopes.
    """
    inverse = torch.nn.functional.pad(1 / depth[:, None], (1, 1, 1, 1), mode="replicate")
    middle = inverse[..., 1:-1, 1:-1]
    across = (inverse[..., 1:-1, 2:] + inverse[..., 1:-1, :-2] - 2 * middle).abs()
    down = (inverse[..., 2:, 1:-1] + inverse[..., :-2, 1:-1] - 2 * middle).abs()
    # The padding repeats the border, which looks like a break.
    broken = torch.nn.functional.pad((across + down)[..., 1:-1, 1:-1], (1, 1, 1, 1))
    return torch.nn.functional.max_pool2d(broken / middle, 3, stride=1, padding=1)[:, 0]
