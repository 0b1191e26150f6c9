"""One pass of a student over all views of a scene, within the memory there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.models.chunks import head_chunk_of
from distill3r_core.models.student import Student
from distill3r_core.profiling import peak_memory, stopwatch
from distill3r_core.report import Progress, Silent
from distill3r_core.stages.pictures import LoadedView
from distill3r_core.stages.reconstruction import Maps
from distill3r_core.types import PointMaps


@dataclass(frozen=True)
class Forward:
    """What a student said, and what it took.

    Args:
        maps: One entry per view, in order.
        seconds: Wall time of the pass.
        peak_bytes: The device's memory at its highest; on a CPU that of the process.
        head_chunk: Views that went through a head at once.
    """

    maps: tuple[Maps, ...]
    seconds: float
    peak_bytes: int
    head_chunk: int


def predict(
    student: Student, views: Sequence[LoadedView], *, progress: Progress | None = None
) -> Forward:
    """Point maps of all views; a pass that runs out of memory is repeated in smaller chunks.

    Args:
        student: In evaluation mode, on its device.
        views: In order; the first is the anchor. Sizes may differ.
        progress: Told of the pass.

    Raises:
        OutOfMemoryError: The smallest chunk does not fit.
    """
    progress = progress or Silent()
    device = student.mean.device
    images = [
        torch.from_numpy(np.ascontiguousarray(view.fitted.image)).movedim(-1, 0) / 255
        for view in views
    ]
    largest = max((view.fitted.placement.size for view in views), key=math.prod)
    chunk = min(head_chunk_of(student.spec, largest, device), len(views))
    progress.begin("infer", total=1, unit="pass")
    while True:
        try:
            with peak_memory(device) as peak, stopwatch(device) as watch, torch.inference_mode():
                found = student(images, head_chunk=chunk, host=True)
        except torch.OutOfMemoryError as error:
            if chunk == 1:
                raise OutOfMemoryError(
                    f"{len(views)} views do not fit into the memory of {device}",
                    hint="take fewer views (--max-views) or smaller pictures (--size)",
                ) from error
            chunk //= 2
            progress.note(f"out of memory: trying again with {chunk} views at once in the heads")
            torch.cuda.empty_cache()
            continue
        progress.advance(views=str(len(views)))
        maps = tuple(_as_maps(view) for view in found)
        return Forward(maps, watch.seconds, peak.bytes, chunk)


def _as_maps(view: PointMaps) -> Maps:
    """Of one view, without the batch axis."""
    return Maps(
        view.points_global[0].numpy(),
        view.points_local[0].numpy(),
        view.confidence_global[0].numpy(),
        view.confidence_local[0].numpy(),
    )
