"""`pictures.txt` of a run: which images it was trained on, so that no test scores them."""

from collections.abc import Iterable

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.cache_union import CacheUnion


def training_images(
    cache: TeacherCache | CacheUnion, names: Iterable[str] | None = None
) -> list[str]:
    """Hashes of all images of training samples, sorted.

    Args:
        cache: The cache, or the caches, that a run learns from.
        names: Training samples of the run; None: all of the cache.
    """
    chosen = cache.names("train") if names is None else names
    return sorted({image for name in chosen for image in cache.detail(name)["pictures"]})
