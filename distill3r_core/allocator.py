"""What the C library does with memory that is given back: keep it, where it is wanted again."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's names for its settings
_COMMON_LIMIT = 1 << 25  # bytes; a larger threshold is refused by older versions


def keep_freed_memory(*, block: int, kept: int) -> None:
    """Let blocks be used again, which by default are mapped anew each time.

    A mapped block costs a page fault for every 4 KB at its first touch, which for what a training
    step or a commit does with it is often more than the work itself. The process then stays as
    large as it once was. Does nothing where the C library is not glibc.

    Args:
        block: Bytes; smaller blocks are kept.
        kept: Bytes that may lie unused at the end of the heap, below 2 GiB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    if not mallopt(_M_MMAP_THRESHOLD, block):
        mallopt(_M_MMAP_THRESHOLD, min(block, _COMMON_LIMIT))
    mallopt(_M_TRIM_THRESHOLD, kept)
