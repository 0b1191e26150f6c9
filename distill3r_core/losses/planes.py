"""Term `planar`: points of one plane of the teacher stay in a plane (Distill3R V-C).

A plane of the teacher is found on a grid of cells: the cell whose normal and offset most others
share is a plane with all of them, then the next among those that are left. What is measured of the
student is scale-free and needs no correspondence of planes: the share of the variance of its points
on these pixels that lies across their best plane.
"""

import math
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.functional import avg_pool2d

from distill3r_core.config import STRICT
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions

NO_PLANE = -1
_TINY = 1e-12


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PlaneOptions(TermOptions):
    """Options of `planar`.

    Args:
        cell: Pixels along a cell of the grid on which planes are found.
        planes: Most planes of a view.
        angle: Degrees between the normals of cells of one plane.
        offset: Distance of a cell from the plane, over the cell's distance to the camera.
        share: Cells of a view that a plane covers at least, over all.
        flat: Thickness of a cell over its width, at most.
    """

    cell: Annotated[int, Field(ge=3)] = 7
    planes: Annotated[int, Field(ge=1, le=32)] = 4
    angle: Annotated[float, Field(gt=0, lt=90)] = 8.0
    offset: Annotated[float, Field(gt=0)] = 0.03
    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    flat: Annotated[float, Field(gt=0)] = 0.05


def plane_error(inputs: TermInputs, *, options: PlaneOptions) -> Float[Tensor, ""]:
    """Mean over a sample's planes of the share of variance across them, then over the samples.

    A sample without planes adds 0.
    """
    points = inputs.predicted.points_local
    assert points is not None, "the student has no local map"
    with torch.no_grad():
        wanted, mask = inputs.targets.points_local.flatten(0, 1), inputs.targets.valid_mask
        labels = find_planes(wanted, mask.flatten(0, 1), options=options)
        labels = labels.reshape(mask.shape)
    errors = []
    for sample, numbers in zip(points, labels, strict=True):
        shares = [
            thickness(view[found == plane])
            for view, found in zip(sample, numbers, strict=True)
            for plane in range(options.planes)
            if bool((found == plane).any())
        ]
        # A product keeps the graph where there is no plane.
        errors.append(torch.stack(shares).mean() if shares else sample.sum() * 0.0)
    return torch.stack(errors).mean()


def thickness(points: Float[Tensor, "M 3"]) -> Float[Tensor, ""]:
    """Variance across the best plane through some points, over all of their variance."""
    moved = points - points.mean(0, keepdim=True)
    spread = moved.mT @ moved / len(moved)
    values = torch.linalg.eigvalsh(spread)
    return values[0] / values.sum().clamp(min=_TINY)


def find_planes(
    points: Float[Tensor, "V H W 3"], mask: Bool[Tensor, "V H W"], *, options: PlaneOptions
) -> Int[Tensor, "V H W"]:
    """The number of the plane that each pixel lies in, or -1; larger planes have lower numbers.

    Args:
        points: Local maps of the teacher.
        mask: Its valid pixels.
    """
    center, normal, usable = _cells(points, mask, options)
    views, rows, columns = usable.shape
    found = torch.full((views, rows * columns), NO_PLANE, device=points.device)
    least = max(3, math.ceil(options.share * rows * columns))
    cosine = math.cos(math.radians(options.angle))
    for view in range(views):
        middle, direction = center[view].flatten(0, 1), normal[view].flatten(0, 1)
        left = usable[view].flatten().clone()
        reach = options.offset * middle.norm(dim=-1)
        # The products of all pairs of cells, without a tensor of their differences.
        across = (direction @ middle.T - (direction * middle).sum(-1, keepdim=True)).abs()
        alike = ((direction @ direction.T).abs() > cosine) & (across < reach[None])
        for plane in range(options.planes):
            members = alike & left[None] & left[:, None]
            best = members.sum(1).argmax()
            chosen = members[best]
            if int(chosen.sum()) < least:
                break
            found[view, chosen] = plane
            left &= ~chosen
    grid = found.reshape(views, rows, columns)
    pixels = grid.repeat_interleave(options.cell, 1).repeat_interleave(options.cell, 2)
    whole = torch.full(mask.shape, NO_PLANE, device=points.device)
    whole[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return torch.where(mask, whole, NO_PLANE)


def _cells(
    points: Float[Tensor, "V H W 3"], mask: Bool[Tensor, "V H W"], options: PlaneOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Center and normal of every cell, and whether it is flat and all of it is valid."""
    size = options.cell

    def mean(values: Float[Tensor, "V C H W"]) -> Float[Tensor, "V _r _c C"]:
        return avg_pool2d(values, size).movedim(1, -1)

    values = torch.where(mask[..., None], points, 0.0).double().movedim(-1, 1)  # (V, 3, H, W)
    center = mean(values)
    products = (values[:, :, None] * values[:, None]).flatten(1, 2)  # (V, 9, H, W)
    spread = mean(products).unflatten(-1, (3, 3)) - center[..., :, None] * center[..., None, :]
    lengths, directions = torch.linalg.eigh(spread)
    thin = lengths[..., 0].clamp(min=0) <= options.flat**2 * lengths[..., 2]
    whole = mean(mask.double()[:, None])[..., 0] == 1
    return center, directions[..., 0], thin & whole & (lengths[..., 2] > 0)


PLANES = LossTerm(
    label="planes",
    summary="Share of variance across the teacher's planes, of the student's points on them.",
    options=PlaneOptions,
    build=lambda options: partial(plane_error, options=options),
    local=True,
)
