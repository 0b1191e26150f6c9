"""Arithmetic and memory of VGGT."""

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
from distill3r_core.teachers.vggt.names import read_state, size_of
from distill3r_core.teachers.vggt.network import (
    HEAD_CHUNK,
    POSE_NUMBERS,
    ROUNDS,
    SPECIAL,
    VGGTSize,
)


def flop_parts(
    network: VGGTSize, views: int, size: tuple[int, int], *, settings: Any
) -> tuple[Part, ...]:
    """The parts of a prediction: cameras, depth, and with `point_map=own` points."""
    grid = (size[0] // PATCH_SIZE, size[1] // PATCH_SIZE)
    width, tokens = network.width, grid[0] * grid[1] + SPECIAL
    channels = (2, 4) if settings.point_map == "own" else (2,)
    heads = tuple(
        part
        for count in channels
        for part in plane_head_parts(
            grid,
            width=2 * width,
            channels=count,
            features=network.features,
            layer_widths=network.layer_widths,
        )
    )
    camera = 2 * width
    one_round = (  # of the camera head
        linear_part("heads/cameras", views, POSE_NUMBERS, camera),
        linear_part("heads/cameras", views, camera, 3 * camera),
        linear_part("heads/cameras", views, camera, camera // 2),
        linear_part("heads/cameras", views, camera // 2, POSE_NUMBERS),
        *blocks("heads/cameras", views, camera, groups=1, depth=network.camera_depth),
    )
    return (
        *repeated(trunk_parts(grid, width, depth=network.encoder_depth, special=SPECIAL), views),
        *blocks("fusion", tokens, width, groups=views, depth=network.depth),
        *blocks("fusion", views * tokens, width, groups=1, depth=network.depth),
        *repeated(one_round, ROUNDS),
        *repeated(heads, views),
    )


def estimate_memory(
    network: VGGTSize,
    views: int,
    size: tuple[int, int],
    *,
    settings: Any,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> MemoryEstimate:
    """Bytes of a prediction at its highest, beyond the weights."""
    grid = (size[0] // PATCH_SIZE, size[1] // PATCH_SIZE)
    pixels, tokens = views * size[0] * size[1], views * (grid[0] * grid[1] + SPECIAL)
    head = (
        4
        * min(views, HEAD_CHUNK)
        * plane_head_numbers(grid, features=network.features, inputs=sum(network.layer_widths))
    )
    block = dtype.itemsize * block_numbers(tokens, network.width)
    numbers = 6 if settings.point_map == "own" else 2
    return MemoryEstimate(
        images=2 * pixels * 3 * 4,
        outputs=pixels * numbers * 4,
        tokens=len(network.taps) * tokens * 2 * network.width * dtype.itemsize,
        working=with_slack(max(head, block)),
    )


def read_size(tensors: Mapping[str, Tensor]) -> VGGTSize:
    """Sizes of the network of a weight file.

    Raises:
        KeyError: It is not one of VGGT.
    """
    return size_of(read_state(tensors, points=False))


COST = TeacherCost(VGGTSize(), read_size, flop_parts, estimate_memory)
