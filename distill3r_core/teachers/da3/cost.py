"""Arithmetic and memory of Depth Anything 3."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distill3r_core.nn.counts import MemoryEstimate, Part, linear_part
from distill3r_core.nn.dino import PATCH_SIZE
from distill3r_core.nn.plane_counts import (
    block_numbers,
    blocks,
    plane_head_numbers,
    plane_head_parts,
    repeated,
    trunk_parts,
    with_slack,
)
from distill3r_core.teachers.cost import CPU, TeacherCost
from distill3r_core.teachers.da3.backbone import DA3Size
from distill3r_core.teachers.da3.heads import POSE_NUMBERS
from distill3r_core.teachers.da3.names import read_state, size_of
from distill3r_core.teachers.da3.network import default_head_chunk

SMALL = DA3Size(384, 12, 6, 64, (48, 96, 192, 384), 4, (5, 7, 9, 11))
BASE = DA3Size(768, 12, 12, 128, (96, 192, 384, 768), 4, (5, 7, 9, 11))
LARGE = DA3Size(1024, 24, 16, 256, (256, 512, 1024, 1024), 8, (11, 15, 19, 23))
CAMERA_BLOCKS = 4  # of the encoder of given cameras


def flop_parts(
    network: DA3Size, views: int, size: tuple[int, int], *, settings: Any
) -> tuple[Part, ...]:
    """The parts of a prediction, without the rays, which teachers do not read."""
    grid = (size[0] // PATCH_SIZE, size[1] // PATCH_SIZE)
    width, tokens = network.width, grid[0] * grid[1] + 1
    across = len(range(network.alternate_from | 1, network.depth, 2))
    within = network.depth - across
    given: tuple[Part, ...] = ()
    if settings.cameras == "given":
        given = (
            linear_part("cameras/embed", views, POSE_NUMBERS, width // 2),
            linear_part("cameras/embed", views, width // 2, width),
            *blocks("cameras", views, width, groups=1, depth=CAMERA_BLOCKS),
        )
    head = plane_head_parts(
        grid,
        width=2 * width,
        channels=2,
        features=network.features,
        layer_widths=network.layer_widths,
    )
    return (
        *repeated(trunk_parts(grid, width, depth=within, special=1), views),
        *blocks("fusion", views * tokens, width, groups=1, depth=across),
        *(
            linear_part("heads/cameras", views, 2 * width, outputs)
            for outputs in (2 * width, 2 * width, POSE_NUMBERS)
        ),
        *given,
        *repeated(tuple(head), views),
    )


def estimate_memory(
    network: DA3Size,
    views: int,
    size: tuple[int, int],
    *,
    settings: Any,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> MemoryEstimate:
    """Bytes of a prediction at its highest, beyond the weights."""
    grid = (size[0] // PATCH_SIZE, size[1] // PATCH_SIZE)
    pixels, tokens = views * size[0] * size[1], views * (grid[0] * grid[1] + 1)
    head = (
        4
        * min(views, default_head_chunk(device))
        * plane_head_numbers(grid, features=network.features, inputs=sum(network.layer_widths))
    )
    block = dtype.itemsize * block_numbers(tokens, network.width)
    return MemoryEstimate(
        images=2 * pixels * 3 * 4,
        outputs=pixels * 2 * 4,
        tokens=len(network.taps) * tokens * 2 * network.width * dtype.itemsize,
        working=with_slack(max(head, block)),
    )


def read_size(tensors: Mapping[str, Tensor]) -> DA3Size:
    """Sizes of the network of a weight file.

    Raises:
        KeyError: It is not one of Depth Anything 3.
    """
    return size_of(read_state(tensors))


def cost_of(published: DA3Size) -> TeacherCost:
    """What the network of one release takes."""
    return TeacherCost(published, read_size, flop_parts, estimate_memory)
