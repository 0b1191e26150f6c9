"""Settings of the C library's allocator: keep freed memory that is allocated again."""

import ctypes
from dataclasses import dataclass

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's names for its settings
_COMMON_LIMIT = 1 << 25  # bytes; a larger threshold is refused by older versions


@dataclass
class _Requested:
    """The largest values that were requested in this process."""

    block: int = 0
    kept: int = 0


_requested = _Requested()


def keep_freed_memory(*, block: int, kept: int) -> None:
    """Reuse freed blocks, which by default are mapped anew each time.

    A mapped block costs a page fault per 4 KB when it is first written, often more than the work
    of a training step or a commit on it. The process then stays at its peak size.
    Does nothing where the C library is not glibc.

    Holds for the whole process: the largest of several requests, in any order.

    Args:
        block: Bytes; smaller blocks are kept.
        kept: Most unused bytes at the end of the heap, below 2 GiB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    _requested.block, _requested.kept = max(block, _requested.block), max(kept, _requested.kept)
    if not mallopt(_M_MMAP_THRESHOLD, _requested.block):
        mallopt(_M_MMAP_THRESHOLD, min(_requested.block, _COMMON_LIMIT))
    mallopt(_M_TRIM_THRESHOLD, _requested.kept)


class _Mallinfo(ctypes.Structure):
    """What `mallinfo2` of glibc returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def freed_memory() -> int:
    """Bytes that were freed in this process and are kept for what it allocates next.

    The system counts them as used. 0 where the C library does not tell (glibc before 2.33, others).
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Mallinfo
    return int(mallinfo().fordblks)
