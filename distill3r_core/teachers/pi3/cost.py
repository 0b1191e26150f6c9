"""Arithmetic and memory of Pi3."""

from typing import Any

import torch

from distill3r_core.nn.counts import MemoryEstimate, Part, linear_part
from distill3r_core.nn.dino import PATCH_SIZE
from distill3r_core.nn.plane_counts import (
    block_numbers,
    blocks,
    repeated,
    trunk_parts,
    with_slack,
)
from distill3r_core.teachers.cost import CPU, TeacherCost
from distill3r_core.teachers.pi3.names import size_of
from distill3r_core.teachers.pi3.network import ENCODER_REGISTERS, REGISTERS, Pi3Size

_LAYERS = 6  # linear layers over patches in the camera head
_PRODUCT = 54  # of two 3x3 matrices
_POSE = (3, 9)  # numbers of a translation and of a matrix


def flop_parts(
    network: Pi3Size, views: int, size: tuple[int, int], *, settings: Any
) -> tuple[Part, ...]:
    """The parts of a prediction."""
    grid = (size[0] // PATCH_SIZE, size[1] // PATCH_SIZE)
    patches = grid[0] * grid[1]
    width, tokens, across = network.width, patches + REGISTERS, network.depth // 2
    camera, inner = network.camera_width, network.branch_width
    branches: list[Part] = []
    for outputs in (network.points_width, network.points_width, camera):
        branches += (
            linear_part("heads/branches", views * tokens, 2 * width, inner),
            *blocks("heads/branches", tokens, inner, groups=views, depth=network.branch_depth),
            linear_part("heads/branches", views * tokens, inner, outputs),
        )
    return (
        *repeated(
            trunk_parts(grid, width, depth=network.encoder_depth, special=1 + ENCODER_REGISTERS),
            views,
        ),
        *blocks("fusion", tokens, width, groups=views, depth=network.depth - across),
        *blocks("fusion", views * tokens, width, groups=1, depth=across),
        *branches,
        *(
            linear_part("heads/pixels", views * patches, network.points_width, count)
            for count in (3 * PATCH_SIZE**2, PATCH_SIZE**2)
        ),
        linear_part("heads/cameras", views * patches, camera, camera).times(_LAYERS),
        *(linear_part("heads/cameras", views, camera, n) for n in (camera, camera, *_POSE)),
        Part("heads/cameras", 2.0 * _PRODUCT * views, 0.0),  # the nearest rotation
    )


def estimate_memory(
    network: Pi3Size,
    views: int,
    size: tuple[int, int],
    *,
    settings: Any,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> MemoryEstimate:
    """Bytes of a prediction at its highest, beyond the weights."""
    grid = (size[0] // PATCH_SIZE, size[1] // PATCH_SIZE)
    pixels, tokens = views * size[0] * size[1], views * (grid[0] * grid[1] + REGISTERS)
    widest = max(network.width, network.branch_width)
    block = dtype.itemsize * block_numbers(tokens, widest)
    heads = 3 * 4 * pixels * 3  # raw numbers, moved, and points
    branches = 2 * network.points_width + network.camera_width
    return MemoryEstimate(
        images=2 * pixels * 3 * 4,
        outputs=pixels * 4 * 4,
        tokens=tokens * (2 * network.width + branches) * dtype.itemsize,
        working=with_slack(max(block, heads)),
    )


COST = TeacherCost(Pi3Size(), size_of, flop_parts, estimate_memory)
