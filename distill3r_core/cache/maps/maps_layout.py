"""What a view's maps are as planes of float16, and which of them are stored.

Planes hold float16 bit patterns as unsigned words: the codec's arithmetic is on the words.
"""

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt16

MAGIC = b"PMAP"

# Sections of a record.
RESIDUALS = 1  # int8 [C, H, W]
EXCEPTIONS = 2  # residuals beyond int8, which are zero there: positions in [H, C, W], values
TRANSFORM = 3  # global_from_local, float32 [3, 4]
GLOBAL_RESIDUALS = 4  # 2 bits per value of [3, H, W]: 0, +1, -1, or an exception
GLOBAL_EXCEPTIONS = 5
MASK = 6  # lengths of runs, alternating, the first one invalid
CAMERA = 7  # intrinsics, float32 [3, 3]


class Kind(enum.IntFlag):
    """How a view's maps are stored; the flags of its record."""

    DEPTH = 1  # one plane: the local map is depth times the pixel's ray
    INDEPENDENT = 2  # three more planes: the global map is no similarity of the local one
    EXACT = 4  # what the similarity lacks to the float16 global map is stored as well
    SHARED = 8  # one plane of confidence: both are the same
    LOCAL_ONLY = 16  # the view has no place in a common frame: its similarity is the identity


# Planes as they are delivered: as few as say it all, the rest is left to the device.
DEPTH_PLANES = 3  # z, confidence_local, confidence_global
LOCAL_PLANES = 5  # x, y, z, confidence_local, confidence_global
ALL_PLANES = 8  # x, y, z, global x, y, z, confidence_local, confidence_global


def delivered_planes(kind: Kind) -> int:
    """The number of planes that say all that a record of this kind holds."""
    if kind & (Kind.INDEPENDENT | Kind.EXACT):
        return ALL_PLANES
    return DEPTH_PLANES if kind & Kind.DEPTH else LOCAL_PLANES


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one view as float16 words.

    Args:
        points_global: Stored where the kind is INDEPENDENT or EXACT.
    """

    points_local: UInt16[np.ndarray, "3 H W"]
    confidence: UInt16[np.ndarray, "2 H W"]
    mask: Bool[np.ndarray, "H W"]  # valid pixels; anything may be elsewhere
    global_from_local: Float32[np.ndarray, "3 4"]  # `[sR | t]`
    points_global: UInt16[np.ndarray, "3 H W"] | None = None
    intrinsics: Float32[np.ndarray, "3 3"] | None = None
