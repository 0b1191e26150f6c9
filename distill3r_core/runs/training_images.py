"""`pictures.txt` of a run: which images it was trained on, so that no test scores them."""

from collections.abc import Iterable
from pathlib import Path

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import DamageError
from distill3r_core.files import read_own, write_text
from distill3r_core.io.checksums import bytes_hash

_MARK = "# checksum "  # starts the last line
_HINT = (
    "`distill3r train --resume` with the run's settings makes it again from the cache; "
    "or evaluate a copy of its weights without the run"
)


def write_training_images(path: Path, images: Iterable[str]) -> None:
    """Write hashes of images, one a line, and a checksum of them, durably."""
    text = "".join(f"{image}\n" for image in images)
    write_text(path, f"{text}{_MARK}{bytes_hash(text.encode())}\n", durable=True)


def read_training_images(path: Path) -> frozenset[str]:
    """The hashes in a file.

    Raises:
        DamageError: It is not what was written: a list that has lost its end has lost its checksum,
            and nobody can tell it from the whole ones that early versions wrote without.
    """
    text, mark, written = read_own(path).partition(_MARK.encode())
    if not text.strip():  # a run learns from some image
        raise DamageError(f"{path} is damaged: it is empty", hint=_HINT)
    if not mark:
        raise DamageError(f"{path} is damaged: its checksum is missing", hint=_HINT)
    if written != f"{bytes_hash(text)}\n".encode():
        raise DamageError(f"{path} is damaged: its checksum is wrong", hint=_HINT)
    return frozenset(text.decode().split())


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
