"""Arithmetic and memory of Fast3R."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distill3r_core.nn.counts import MemoryEstimate, Network, Part, level_pixels, parts
from distill3r_core.nn.names import count_blocks
from distill3r_core.nn.plane_counts import block_numbers, with_slack
from distill3r_core.teachers.cost import CPU, TeacherCost
from distill3r_core.teachers.fast3r_config import Fast3RConfig
from distill3r_core.teachers.fast3r_files import original_state

FAST3R_NETWORK = Network(16, 1024, 24, 0, 1024, 24)  # jedyang97/Fast3R_ViT_Large_512


def flop_parts(
    network: Network, views: int, size: tuple[int, int], *, settings: Any
) -> tuple[Part, ...]:
    """The parts of a prediction, both heads."""
    return parts(network, views, size)


def estimate_memory(
    network: Network,
    views: int,
    size: tuple[int, int],
    *,
    settings: Any,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> MemoryEstimate:
    """Bytes of a prediction at its highest, beyond the weights; one view at a time in the heads."""
    grid = (size[0] // network.patch, size[1] // network.patch)
    pixels, tokens = size[0] * size[1], views * grid[0] * grid[1]
    features, last = network.head.features, network.head.last
    head = 4 * (level_pixels(grid)["8x"] * (features + last) + 2 * pixels * last)
    block = dtype.itemsize * block_numbers(tokens, network.fusion_width)
    return MemoryEstimate(
        images=2 * views * pixels * 3 * 4,
        outputs=views * pixels * network.heads * 4 * 4,
        tokens=tokens * (network.encoder_width + 3 * network.fusion_width) * dtype.itemsize,
        working=with_slack(max(head, block)),
    )


def read_size(tensors: Mapping[str, Tensor]) -> Network:
    """Sizes of the network of a weight file.

    Raises:
        KeyError: It is not one of Fast3R.
    """
    state = original_state(tensors)
    stem = state["encoder.patch_embed.proj.weight"].shape
    return Network(
        patch=stem[-1],
        encoder_width=stem[0],
        encoder_depth=count_blocks(state, "encoder.enc_blocks."),
        extra_tokens=0,
        fusion_width=state["decoder.decoder_embed.weight"].shape[0],
        fusion_depth=count_blocks(state, "decoder.dec_blocks."),
    )


def size_of_config(config: Fast3RConfig) -> Network:
    """Sizes of the network of a `config.json`."""
    return Network(
        patch=config.patch_size,
        encoder_width=config.encoder_width,
        encoder_depth=config.encoder_depth,
        extra_tokens=0,
        fusion_width=config.decoder_width,
        fusion_depth=config.decoder_depth,
    )


COST = TeacherCost(FAST3R_NETWORK, read_size, flop_parts, estimate_memory)
