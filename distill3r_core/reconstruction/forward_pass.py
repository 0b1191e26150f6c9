"""One pass of a student over all views of a scene, within the memory there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from distill3r_core.errors import OutOfMemoryError, RequestError
from distill3r_core.machine_memory import available_memory
from distill3r_core.models.families import family_of
from distill3r_core.models.student import HeadName, Student
from distill3r_core.nn.progress import ProgressCallback, Stretch
from distill3r_core.nn.view_codes import TABLE_ROWS
from distill3r_core.profiling import OutOfRoom, memory_limits, peak_memory, stopwatch
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.view_maps import Maps, ViewMap
from distill3r_core.report import Progress, Silent
from distill3r_core.types import PointMap

_GIB = 2**30
# The share of what is free that a pass with more than one view at once in a head may count on.
_AT_FIRST = 0.9
# Bytes for every pixel of every view: a head's map, the picture (3) with the cleaning (80; 130 with
# a voxel size, of which this does not know); measured with 20 views of 224x518. Writing took less,
# but for COLMAP's 450 a point, of which there are a million by default.
_MAP, _AFTERWARDS = 16, 83


@dataclass(frozen=True)
class Forward:
    """What a student said, and what it took.

    Args:
        maps: One entry per view, in order.
        seconds: Wall time of the pass.
        estimate_bytes: Memory that the pass was expected to take beyond the weights.
        peak_bytes: The device's memory at its highest; on a CPU that of the process.
        head_chunk: Views that went through a head at once.
    """

    maps: tuple[Maps, ...]
    seconds: float
    estimate_bytes: int
    peak_bytes: int
    head_chunk: int


@dataclass(frozen=True)
class Plan:
    """How a pass is to run.

    Args:
        head_chunk: Views that go through a head at once.
        bytes: Memory it is expected to take beyond the weights.
        text: The same in words.
    """

    head_chunk: int
    bytes: int
    text: str


def predict(
    student: Student,
    views: Sequence[LoadedView],
    *,
    head: HeadName = "both",
    progress: Progress | None = None,
) -> Forward:
    """Point maps of all views, in chunks that are expected to fit; smaller ones if they do not.

    Args:
        student: In evaluation mode, on its device.
        views: In order; the first is the anchor. Sizes may differ.
        head: Which heads are run.
        progress: Reports the plan, the pass, and of every smaller chunk that was needed.

    Raises:
        RequestError: See `plan_pass`.
        OutOfMemoryError: The smallest chunk does not fit.
    """
    progress = progress or Silent()
    device = student.device
    sizes = [view.fitted.placement.size for view in views]
    plan = plan_pass(student, views, head=head)
    progress.note(plan.text)
    images = [
        torch.from_numpy(np.ascontiguousarray(view.fitted.image)).movedim(-1, 0) / 255
        for view in views
    ]
    chunk = plan.head_chunk
    while True:
        on_progress = _Stretches(progress, student, len(views), head)
        done = _attempt(student, images, chunk, plan, head, on_progress)
        if done is not None:
            return done
        if chunk == 1:
            raise _ran_out(student, sizes, head)
        chunk //= 2
        progress.note(f"out of memory: trying again with {_counted(chunk)} at once in the heads")
        if device.type == "cuda":
            torch.cuda.empty_cache()


@dataclass
class _Stretches:
    """Shows a pass as a phase of progress for each of its stretches."""

    progress: Progress
    student: Student
    views: int
    head: HeadName
    _now: Stretch | None = None

    def __call__(self, stretch: Stretch, count: int) -> None:
        if stretch != self._now:  # views of several sizes go through the encoder one by one
            self._now = stretch
            total, unit = self.student.progress_totals(self.views, self.head)[stretch]
            self.progress.begin(stretch, total=total, unit=unit)
        if count:
            self.progress.advance(count)


def _attempt(
    student: Student,
    images: Sequence[Tensor],
    chunk: int,
    plan: Plan,
    head: HeadName,
    on_progress: ProgressCallback,
) -> Forward | None:
    """The pass; None where it does not fit. What it had taken by then is free on return."""
    device = student.device
    try:
        with (
            memory_limits(),
            peak_memory(device) as peak,
            stopwatch(device) as watch,
            torch.inference_mode(),
        ):
            found = student(images, head=head, head_chunk=chunk, host=True, on_progress=on_progress)
    except OutOfRoom:
        return None
    maps = tuple(Maps(_of_one(view.global_map), _of_one(view.local_map)) for view in found)
    return Forward(maps, watch.seconds, plan.bytes, peak.bytes, chunk)


def plan_pass(student: Student, views: Sequence[LoadedView], *, head: HeadName = "both") -> Plan:
    """The largest chunk that fits by the estimate.

    Raises:
        RequestError: There are more views than the student can tell apart.
        OutOfMemoryError: No chunk fits, on a CPU: there a pass that does not fit is killed by the
            system; a GPU says so itself, and its estimate may be too careful. Or the machine has
            no room for the maps and what is made of them.
    """
    require_codes(len(views))
    sizes = [view.fitted.placement.size for view in views]
    _require_room_afterwards(sizes, _heads(head))
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
        f"plan: {len(sizes)} views of {height}x{width}, about {needed / _GIB:.2f} GiB of "
        f"{free / _GIB:.2f} free on {device}, {chunk} at once in the heads"
    )
    return Plan(chunk, needed, text)


def require_codes(views: int) -> None:
    """Refuse more views than a student can tell apart.

    Raises:
        RequestError: There are more.
    """
    if views > TABLE_ROWS:
        raise RequestError(
            f"{views} views: the student can tell {TABLE_ROWS} apart",
            hint=f"--max-views {TABLE_ROWS}, or a lower --fps",
        )


def _heads(head: HeadName) -> int:
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
        heads=_heads(head),
    )
    # On a GPU pictures come in and maps go out a few at a time.
    return estimate.total if device.type != "cuda" else estimate.tokens + estimate.working


def _require_room_afterwards(sizes: Sequence[tuple[int, int]], heads: int) -> None:
    """Refuse what would end after the pass, when the maps are cleaned and written."""
    free = available_memory()
    totals = list(accumulate(math.prod(size) * (_AFTERWARDS + heads * _MAP) for size in sizes))
    if totals[-1] > free:
        fitting = sum(total <= free for total in totals)
        raise OutOfMemoryError(
            f"the maps of {len(sizes)} views, and cleaning them, need more than the "
            f"{free / _GIB:.2f} GiB of memory that are free on this machine",
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
        f"{_counted(len(sizes))} would take about {needed / _GIB:.2f} GiB; "
        f"{free / _GIB:.2f} GiB are free on {device}",
        hint=f"take fewer views{more}, or smaller ones with --size",
    )


def _ran_out(
    student: Student, sizes: Sequence[tuple[int, int]], head: HeadName
) -> OutOfMemoryError:
    """Of a pass that was expected to fit: what it was expected to take helps no further."""
    device = student.device
    needed = _needed(student, sizes, 1, head)
    half = f"--max-views {len(sizes) // 2}" if len(sizes) > 1 else "--size"
    return OutOfMemoryError(
        f"memory ran out on {device} in a pass over {_counted(len(sizes))}, one at once in the "
        f"heads, for which about {needed / _GIB:.2f} GiB were expected to do",
        hint=f"other programs or a limit of this process may take the rest; try {half}",
    )


def _counted(views: int) -> str:
    return "1 view" if views == 1 else f"{views} views"


def free_memory(device: torch.device) -> int:
    """Bytes that a pass may take on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return available_memory()


def _of_one(maps: PointMap[Tensor] | None) -> ViewMap | None:
    """The map of one view, without the batch axis; None where its head was not run."""
    if maps is None:
        return None
    return ViewMap(maps.points[0].numpy(), maps.confidence[0].numpy())
