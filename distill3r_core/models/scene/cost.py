"""Arithmetic and memory of a scene student, counted on the layers themselves."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from distill3r_core.models.scene.build import build_network
from distill3r_core.models.scene.chunks import chunk_of, numbers_per_pixel
from distill3r_core.models.scene.spec import PatchSpec, SceneSpec
from distill3r_core.models.student import HeadName
from distill3r_core.nn.counts import MemoryEstimate, Part, attention_part

_FLOAT = 4  # bytes
_SLACK = 1.3  # scratch of convolutions, fragments of the allocator


def flop_parts(
    spec: SceneSpec, views: int, size: tuple[int, int], *, head: HeadName = "both"
) -> tuple[Part, ...]:
    """The parts of one forward pass over `views` views of `size` (rows, columns)."""
    products = _counted(spec, size)
    network = spec.network
    if not isinstance(network, PatchSpec) or network.attention == "none":
        return (products.times(views),)
    tokens = 1 + math.prod(-(-side // network.patch) for side in size)
    attention = attention_part("network", tokens, network.width)
    return products.times(views), attention.times(views * network.depth)


@lru_cache(maxsize=64)
def _counted(spec: SceneSpec, size: tuple[int, int]) -> Part:
    """Products and convolutions of one view, layer by layer, without computing any."""
    flop = elements = 0

    def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal flop, elements
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        # Multiplications for one number of the output: all weights of its channel.
        each = layer.weight[0].numel()
        flop += 2 * each * output.numel()
        elements += inputs[0].numel() + output.numel()

    with torch.device("meta"):
        network = build_network(spec.network).eval()
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.register_forward_hook(count)
        network.out(network(torch.empty(1, 3, *size)))
    return Part("network/products", float(flop), float(elements))


def estimate_bytes(
    spec: SceneSpec,
    sizes: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    head_chunk: int | None = None,
    heads: int = 2,
) -> MemoryEstimate:
    """Peak memory of a pass over views of these sizes, beyond the weights; see `EstimateMemory`."""
    pixels = sum(math.prod(size) for size in sizes)
    largest = max(sizes, key=math.prod)
    chunk = min(head_chunk or chunk_of(spec, largest, device), len(sizes))
    working = chunk * math.prod(largest) * (numbers_per_pixel(spec) * dtype.itemsize + 3 * _FLOAT)
    return MemoryEstimate(
        images=2 * pixels * 3 * _FLOAT,
        outputs=pixels * 4 * _FLOAT,
        tokens=0,
        working=int(_SLACK * working),
    )


def head_chunk_of(
    spec: SceneSpec, size: tuple[int, int], device: torch.device, *, views: int
) -> int:
    """Images that go through the network at once, of `views` images of `size`."""
    return min(views, chunk_of(spec, size, device))
