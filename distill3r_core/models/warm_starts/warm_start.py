"""What a warm start is: its record, and what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from distill3r_core.registry import Registry


@dataclass(frozen=True)
class StartedFrom:
    """Where the weights of a student come from.

    Args:
        summary: File, its hash, blocks, heads: for the run and the checkpoint.
        licenses: Licenses of the file's weights, which the student inherits.
        encoder: Whether the student's encoder is the file's.
    """

    summary: str
    licenses: tuple[str, ...]
    encoder: bool = False


@dataclass(frozen=True)
class ImagePairs:
    """Images on which a warm start measures.

    Args:
        images: Pairs of RGB images that overlap.
        device: Where networks are run on them.
    """

    images: UInt8[Tensor, "n 2 3 H W"]
    device: torch.device


@dataclass(frozen=True)
class WarmStart:
    """A way to start a student from the weights of a larger network.

    Args:
        start: Fills a student of the family from a file, in place.
        measure: The same, by what the network in the file does on images; None: it reads weights
            alone.
    """

    family: str  # of the students that it can start
    summary: str  # how it works, in one sentence
    start: Callable[[Any, Path], StartedFrom]
    measure: Callable[[Any, Path, ImagePairs], StartedFrom] | None = None


WARM_STARTS: Registry[WarmStart] = Registry("warm start")
