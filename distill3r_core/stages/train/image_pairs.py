"""Pairs of training images on which a warm start measures a larger network."""

from collections import Counter

import torch

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.sample_sources import read_at
from distill3r_core.errors import NothingUsableError
from distill3r_core.models.warm_starts.warm_start import ImagePairs


def training_pairs(
    cache: CacheUnion, images: int, *, size: tuple[int, int] | None, device: torch.device
) -> ImagePairs:
    """Pairs of neighboring views of training samples, spread evenly over all of them.

    Args:
        images: How many images; fewer where there are fewer pairs.
        size: Size of the student's input, landscape; None: that of the cache.
        device: Where networks will be run on them.

    Raises:
        NothingUsableError: No training sample has two views.
    """
    names = [name for name in cache.names("train") if cache.entry(name).views > 1]
    if not names:
        raise NothingUsableError(
            "init_images: no training sample has two views", hint="leave init_images out"
        )
    # All of one size, so that networks take them together: that of most samples.
    kept = Counter(cache.size_of(name) for name in names).most_common(1)[0][0]
    pairs = [
        (name, view)
        for name in names
        if cache.size_of(name) == kept
        for view in range(cache.entry(name).views - 1)
    ]
    count = min(len(pairs), images // 2)
    chosen = torch.linspace(0, len(pairs) - 1, count).round().long().tolist()
    found = []
    for name, view in (pairs[index] for index in chosen):
        found.append(read_at(cache, name, [view, view + 1], size=size)[0])
    return ImagePairs(torch.stack(found), device)
