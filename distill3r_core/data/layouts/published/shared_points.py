"""An order for photographs that have none: by the points of the scene that they share."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from scipy import sparse

_BEFORE = 3  # images before the next one that it is to share points with


def walk_by_shared_points(points: Sequence[Int[np.ndarray, "_"]]) -> list[int]:
    """Order images so that each shows much of what those before it show.

    The walk begins at the image with the most points. Next is the one that shares most with the
    last three; where none is left that shares any, the one with the most points. Of equal ones the
    first.

    Args:
        points: Numbers of the scene's points that each image sees, in any order.

    Returns:
        Numbers of the images, each once.
    """
    seen = [np.unique(numbers) for numbers in points]
    counts = np.array([len(numbers) for numbers in seen])
    if not counts.any():
        return list(range(len(seen)))
    every, columns = np.unique(np.concatenate(seen), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(counts)])
    by_image = sparse.csr_array(
        (np.ones(len(columns), np.int32), columns, starts), shape=(len(seen), len(every))
    )
    by_point = by_image.T.tocsr()
    walk: list[int] = []
    shared: list[np.ndarray] = []  # with each of the last images
    left = np.ones(len(seen), bool)
    while left.any():
        score = np.sum(shared[-_BEFORE:], axis=0) if shared else counts
        if not (score[left] > 0).any():
            score = counts
        chosen = int(np.argmax(np.where(left, score, -1)))
        walk.append(chosen)
        left[chosen] = False
        # The product of one row costs as much as its points have images: not a square of images.
        shared.append((by_image[[chosen]] @ by_point).toarray()[0])
        del shared[:-_BEFORE]
    return walk
