"""Memory of a student's pass over all views, estimated before it runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from distill3r_core.errors import OutOfMemoryError, RequestError
from distill3r_core.models.families import family_of
from distill3r_core.models.student import HeadName, Student
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.report import counted
from distill3r_core.system.machine_memory import available_memory

GIB = 2**30
# The share of what is free that a pass with more than one view at once in a head may count on.
_AT_FIRST = 0.9
# Bytes for every pixel of every view: a head's map, the image (3) with the cleaning (80; 130 with
# a voxel size, of which this does not know); measured with 20 views of 224x518. Writing took less,
# but for COLMAP's 450 a point, of which there are a million by default.
_MAP, _AFTERWARDS = 16, 83


@dataclass(frozen=True)
class PassPlan:
    """How a pass is to run."""

    head_chunk: int  # views that go through a head at once
    bytes: int  # memory it is expected to take beyond the weights
    text: str


def plan_pass(
    student: Student, views: Sequence[LoadedView], *, head: HeadName = "both"
) -> PassPlan:
    """The largest chunk that fits by the estimate.

    Raises:
        RequestError: There are more views than the student can tell apart.
        OutOfMemoryError: No chunk fits, on a CPU: there a pass that does not fit is killed by the
            system; a GPU says so itself, and its estimate may be too careful. Or the machine has
            no room for the maps and what is made of them.
    """
    require_count(len(views), family_of(student.spec).views.maximum, "the student")
    sizes = [view.fitted.placement.size for view in views]
    _require_room_afterwards(sizes, number_of_heads(head))
    device = student.device
    largest = max(sizes, key=math.prod)
    chunk = family_of(student.spec).cost.head_chunk(student.spec, largest, device, views=len(sizes))
    free = free_memory(device)
    # On a CPU a second try finds less than the first: what that had taken is not all given back.
    wide = free if device.type == "cuda" else free * _AT_FIRST
    needed = _needed(student, sizes, chunk, head)
    while needed > wide and chunk > 1:
        chunk //= 2
        needed = _needed(student, sizes, chunk, head)
    if needed > free and device.type != "cuda":
        raise _does_not_fit(student, sizes, needed, head)
    height, width = largest
    text = (
        f"plan: {len(sizes)} views of {height}x{width}, about {needed / GIB:.2f} GiB of "
        f"{free / GIB:.2f} free on {device}, {chunk} at once in the heads"
    )
    return PassPlan(chunk, needed, text)


def require_count(views: int, most: int | None, model: str) -> None:
    """Refuse more views than a model takes.

    Args:
        most: The largest number of views; None: as many as memory holds.
        model: The model in words.

    Raises:
        RequestError: There are more.
    """
    if most is not None and views > most:
        raise RequestError(
            f"{views} views: {model} takes at most {most}",
            hint=f"--max-views {most} takes {most} of them, evenly spread; of a video, a lower "
            "--fps takes fewer frames",
        )


def number_of_heads(head: HeadName) -> int:
    """How many heads are run."""
    return 2 if head == "both" else 1


def _needed(student: Student, sizes: Sequence[tuple[int, int]], chunk: int, head: HeadName) -> int:
    """Bytes of the device that a pass takes beyond the weights."""
    device = student.device
    estimate = family_of(student.spec).cost.memory(
        student.spec,
        sizes,
        device=device,
        dtype=student.product_dtype,
        head_chunk=chunk,
        heads=number_of_heads(head),
    )
    # On a GPU images come in and maps go out a few at a time.
    return estimate.total if device.type != "cuda" else estimate.tokens + estimate.working


def _require_room_afterwards(sizes: Sequence[tuple[int, int]], heads: int) -> None:
    """Refuse what would end after the pass, when the maps are cleaned and written."""
    free = available_memory()
    totals = list(accumulate(math.prod(size) * (_AFTERWARDS + heads * _MAP) for size in sizes))
    if totals[-1] > free:
        fitting = sum(total <= free for total in totals)
        raise OutOfMemoryError(
            f"the maps of {len(sizes)} views, and cleaning them, need more than the "
            f"{free / GIB:.2f} GiB of memory that are free on this machine",
            hint=f"take fewer views (--max-views {fitting} would fit), or smaller ones with --size",
        )


def _does_not_fit(
    student: Student, sizes: Sequence[tuple[int, int]], needed: int, head: HeadName
) -> OutOfMemoryError:
    device = student.device
    free = free_memory(device)
    counts = range(len(sizes) - 1, 0, -1)
    fitting = next(
        (count for count in counts if _needed(student, sizes[:count], 1, head) < free), 0
    )
    more = f" (--max-views {fitting} would fit)" if fitting else ""
    return OutOfMemoryError(
        f"{counted(len(sizes), 'view')} would take about {needed / GIB:.2f} GiB; "
        f"{free / GIB:.2f} GiB are free on {device}",
        hint=f"take fewer views{more}, or smaller ones with --size",
    )


def ran_out(student: Student, sizes: Sequence[tuple[int, int]], head: HeadName) -> OutOfMemoryError:
    """The error of a pass that was expected to fit: the estimate gives no better advice."""
    device = student.device
    needed = _needed(student, sizes, 1, head)
    half = f"--max-views {len(sizes) // 2}" if len(sizes) > 1 else "--size"
    return OutOfMemoryError(
        f"memory ran out on {device} in a pass over {counted(len(sizes), 'view')}, one at once in "
        f"the heads, for which about {needed / GIB:.2f} GiB were expected to do",
        hint=f"other programs or a limit of this process may take the rest; try {half}",
    )


def free_memory(device: torch.device) -> int:
    """Bytes that a pass may take on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return available_memory()
