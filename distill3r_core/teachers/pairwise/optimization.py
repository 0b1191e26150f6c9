"""Global alignment: cameras and depth of all views that agree best with all pairs (DUSt3R, 3.4)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from distill3r_core.geometry.cameras import pixel_grid
from distill3r_core.geometry.pose_vectors import quaternion_from_rotation, rotation_from_quaternion
from distill3r_core.geometry.similarity import scale_of
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.teachers.pairwise.predictions import PairPredictions
from distill3r_core.teachers.pairwise.tree import BASE_SCALE, Placed

STEPS = 300
FIRST_RATE, LAST_RATE = 0.01, 1e-6
BETAS = (0.9, 0.9)
FOCAL_DAMPING = 20.0  # a focal length is exp(parameter / 20): it moves slower than depth
EDGES_AT_ONCE = 8
SMALLEST_DEPTH = 1e-6


@dataclass(frozen=True)
class Aligned:
    """Views in one world.

    Args:
        depth: z of each view in its own camera, flat as in `PairPredictions`.
        world_from_cam: Pose of each view.
        focals: Focal length of each view, in pixels; the principal point is its middle.
        scales: Scale of each pair; their geometric mean is 0.5.
        loss: Mean weighted distance between the pairs' points and those of the views.
        unplaced: Views that have no place in the world, see `Placed`.
    """

    depth: Float[Tensor, "N P"]
    world_from_cam: Float[Tensor, "N 4 4"]
    focals: Float[Tensor, "N"]
    scales: Float[Tensor, "E"]
    loss: float
    unplaced: tuple[int, ...] = ()


class PairAlignment(nn.Module):
    """The variables of the alignment, and the loss that holds them together.

    Args:
        pairs: Predictions.
        start: Where the views are to begin with.
        center: Where in its pixel a point was seen.
    """

    pixels: Float[Tensor, "N P 2"]
    valid: Bool[Tensor, "N P"]

    def __init__(self, pairs: PairPredictions, start: Placed, *, center: float = 0.5) -> None:
        super().__init__()
        self.pairs = pairs
        largest = pairs.points_i.shape[1]
        pixels = torch.zeros(pairs.views, largest, 2)
        valid = torch.zeros(pairs.views, largest, dtype=torch.bool)
        for view, (rows, columns) in enumerate(pairs.sizes):
            grid = pixel_grid((rows, columns), center=center)
            pixels[view, : rows * columns] = (
                grid - grid.new_tensor([columns / 2, rows / 2])
            ).reshape(-1, 2)
            valid[view, : rows * columns] = True
        self.register_buffer("pixels", pixels)
        self.register_buffer("valid", valid)
        rotation, translation = start.world_from_cam[:, :3, :3], start.world_from_cam[:, :3, 3]
        depth = ((start.points - translation[:, None]) @ rotation)[..., 2]
        self.log_depth = nn.Parameter(depth.clamp(min=SMALLEST_DEPTH).log())
        self.log_focal = nn.Parameter(FOCAL_DAMPING * start.focals.log())
        self.quaternion = nn.Parameter(quaternion_from_rotation(rotation))
        self.translation = nn.Parameter(_compress(translation))
        scale = scale_of(start.similarities)
        self.pair_quaternion = nn.Parameter(
            quaternion_from_rotation(start.similarities[..., :3] / scale[:, None, None])
        )
        self.pair_translation = nn.Parameter(_compress(start.similarities[..., 3] / scale[:, None]))
        self.pair_log_scale = nn.Parameter(scale.log())

    def scales(self) -> Float[Tensor, "E"]:
        """Scales of the pairs, brought to their gauge."""
        return BASE_SCALE * (self.pair_log_scale - self.pair_log_scale.mean()).exp()

    def poses(self) -> Float[Tensor, "N 4 4"]:
        """`world_from_cam` of each view."""
        poses = torch.eye(4).to(self.translation).repeat(self.pairs.views, 1, 1)
        poses[:, :3, :3] = rotation_from_quaternion(self.quaternion)
        poses[:, :3, 3] = _expand(self.translation)
        return poses

    def focals(self) -> Float[Tensor, "N"]:
        """Focal length of each view, in pixels."""
        return (self.log_focal / FOCAL_DAMPING).exp()

    def points(self) -> Float[Tensor, "N P 3"]:
        """Points of each view in the world."""
        depth = self.log_depth.exp()[..., None]
        sideways = self.pixels / self.focals()[:, None, None] * depth
        local = torch.cat([sideways, depth], dim=-1)
        rotation = rotation_from_quaternion(self.quaternion)
        return local @ rotation.mT + _expand(self.translation)[:, None]

    def forward(self, on_pairs: Callable[[int], None] | None = None) -> Float[Tensor, ""]:
        """The loss; its gradient is computed pair by pair and left in the parameters.

        Only the points of the views and a few pairs are in memory at once.

        Args:
            on_pairs: Called with the number of pairs that are done; may raise to stop.
        """
        points = self.points()
        seen = points.detach().requires_grad_()
        total = points.new_zeros(())
        areas = [  # pixels of each side of all pairs together
            sum(map(self.pairs.pixels_of, self.pairs.edges[:, side].tolist())) for side in (0, 1)
        ]
        for start in range(0, len(self.pairs.edges), EDGES_AT_ONCE):
            chunk = slice(start, start + EDGES_AT_ONCE)
            loss = self._pair_loss(chunk, seen, areas)
            if torch.is_grad_enabled():
                loss.backward()
            total = total + loss.detach()
            if on_pairs is not None:
                on_pairs(min(chunk.stop, len(self.pairs.edges)))
        if torch.is_grad_enabled():
            points.backward(seen.grad)
        return total

    def _pair_loss(
        self, chunk: slice, points: Float[Tensor, "N P 3"], areas: list[int]
    ) -> Float[Tensor, ""]:
        pairs = self.pairs
        scale = self.scales()[chunk, None, None]
        rotation = rotation_from_quaternion(self.pair_quaternion[chunk])
        translation = _expand(self.pair_translation[chunk])[:, None]
        total = points.new_zeros(())
        sides = ((pairs.points_i, pairs.confidence_i), (pairs.points_j, pairs.confidence_j))
        for side, (predicted, confidence) in enumerate(sides):
            views = pairs.edges[chunk, side]
            moved = scale * (predicted[chunk].float() @ rotation.mT + translation)
            # The confidence of what lies beyond a view is 0, and its logarithm is not wanted.
            weight = torch.where(self.valid[views], confidence[chunk].float(), 1.0).log()
            total = total + (weight * (points[views] - moved).norm(dim=-1)).sum() / areas[side]
        return total


def align(
    pairs: PairPredictions,
    start: Placed,
    *,
    steps: int = STEPS,
    center: float = 0.5,
    on_progress: StepCallback = ignore_steps,
) -> Aligned:
    """Move cameras, depth, focal lengths and pairs to where they agree best.

    Adam with a rate that falls as a cosine from 0.01 to 1e-6.

    Args:
        pairs: Predictions.
        start: Where the views are to begin with.
        steps: Steps of the optimization; 0 keeps the start.
        center: Where in its pixel a point was seen.
        on_progress: Called in every step and for the final loss, after every few pairs; may raise
            to stop.
    """
    alignment = PairAlignment(pairs, start, center=center)
    optimizer = torch.optim.Adam(alignment.parameters(), lr=FIRST_RATE, betas=BETAS)
    for step in range(steps):
        share = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = LAST_RATE + (FIRST_RATE - LAST_RATE) * share
        optimizer.zero_grad()
        on_progress("alignment", step, steps)
        with torch.enable_grad():
            alignment(lambda _, step=step: on_progress("alignment", step, steps))
        optimizer.step()
    on_progress("alignment", steps, steps)
    with torch.no_grad():
        return Aligned(
            depth=torch.where(alignment.valid, alignment.log_depth.exp(), 0.0),
            world_from_cam=alignment.poses(),
            focals=alignment.focals(),
            scales=alignment.scales(),
            loss=float(alignment(lambda _: on_progress("alignment", steps, steps))),
            unplaced=start.unplaced,
        )


def _compress(translation: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The parameter whose `_expand` is a translation: large ones move faster."""
    return translation.sign() * translation.abs().log1p()


def _expand(parameter: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    return parameter.sign() * parameter.abs().expm1()
