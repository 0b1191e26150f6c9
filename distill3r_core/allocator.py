"""What the C library does with memory that is given back: keep it, where it is wanted again."""

import ctypes
from dataclasses import dataclass

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's names for its settings
_COMMON_LIMIT = 1 << 25  # bytes; a larger threshold is refused by older versions


@dataclass
class _Asked:
    """The most that anybody in this process asked for."""

    block: int = 0
    kept: int = 0


_asked = _Asked()


def keep_freed_memory(*, block: int, kept: int) -> None:
    """Let blocks be used again, which by default are mapped anew each time.

    A mapped block costs a page fault for every 4 KB at its first touch, which for what a training
    step or a commit does with it is often more than the work itself. The process then stays as
    large as it once was. Does nothing where the C library is not glibc.

    It holds for the whole process: of several wishes the largest, whatever their order.

    Args:
        block: Bytes; smaller blocks are kept.
        kept: Bytes that may lie unused at the end of the heap, below 2 GiB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    _asked.block, _asked.kept = max(block, _asked.block), max(kept, _asked.kept)
    if not mallopt(_M_MMAP_THRESHOLD, _asked.block):
        mallopt(_M_MMAP_THRESHOLD, min(_asked.block, _COMMON_LIMIT))
    mallopt(_M_TRIM_THRESHOLD, _asked.kept)
