"""Sizes with about the same number of patches, so that images of any shape keep theirs."""

import math
from collections.abc import Sequence

_FULL = 0.96  # least share of the patches that a size must use
_WIDEST = 3.0  # columns over rows


def bucket_sizes(patches: int, *, patch: int) -> tuple[tuple[int, int], ...]:
    """Landscape sizes (rows, columns) from square to wide, each of at most `patches` patches.

    Args:
        patches: 592 for the 224x518 of the paper.
        patch: Side of a patch in pixels.
    """
    found = []
    for rows in range(1, math.isqrt(patches) + 1):
        columns = patches // rows
        if rows * columns >= _FULL * patches and columns <= _WIDEST * rows:
            found.append((rows * patch, columns * patch))
    return tuple(sorted(found, key=lambda size: size[1] / size[0]))


def nearest_bucket(
    sizes: Sequence[tuple[int, int]], *, patches: int, patch: int
) -> tuple[int, int]:
    """The landscape size whose shape is nearest to the median shape of images.

    Args:
        sizes: Rows and columns of the images, of either orientation.
        patches: See `bucket_sizes`; so is `patch`.
    """
    shapes = sorted(math.log(max(size) / min(size)) for size in sizes)
    middle = shapes[len(shapes) // 2]
    return min(
        bucket_sizes(patches, patch=patch),
        key=lambda size: abs(math.log(size[1] / size[0]) - middle),
    )
