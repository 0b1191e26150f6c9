"""`manifest --dry-run`: what samples will take on the disk and of a teacher's time."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from distill3r_core.data.cached_size import DEFAULT_SIZE, bytes_per_pixel
from distill3r_core.data.frame_processing import Processing, process
from distill3r_core.data.frame_reader import SourceFrame, read_source_frame
from distill3r_core.data.layouts import Frame, Scene
from distill3r_core.data.planning import DatasetPlan
from distill3r_core.errors import ContradictionError, ImageError
from distill3r_core.io.images.decode import PNG_LEVEL
from distill3r_core.io.images.video import read_frames
from distill3r_core.report import Table, duration, gigabytes

_TRIED = 4  # images of a data set whose size stands for that of all
_COLUMNS = (
    *("data set", "scenes", "frames", "stride", "samples", "images"),
    *("image files", "cache", "teacher"),
)


@dataclass(frozen=True)
class ExpectedWork:
    """What a planned data set will take.

    Args:
        stride: Least and greatest number of listed frames from a view to the next, by scene; None:
            there is no sample.
        views: Views of all samples together; a view of two samples counts twice.
        image_bytes: Of the processed images, by a few of them; None: none could be read.
        cache_bytes: Of a teacher cache at its default size.
        teacher_hours: At the given rate; None: none was given.
    """

    stride: tuple[int, int] | None
    views: int
    image_bytes: int | None
    cache_bytes: int
    teacher_hours: float | None

    @property
    def figures(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "stride": self.stride and list(self.stride)}


def expected_work(
    plan: DatasetPlan, processing: Processing, *, teacher_rate: float | None, link: bool = False
) -> ExpectedWork:
    """Estimate the work of a data set; a few of its images are processed, and nothing is written.

    Args:
        plan: Its scenes and windows.
        processing: How its images will be processed.
        teacher_rate: Views a second that the teacher does.
        link: No images will be written.
    """
    windows = [window for scene in plan.scenes for window in scene.windows]
    strides = [int(np.median(np.diff(window))) for window in windows]
    views = sum(len(window) for window in windows)
    images = plan.images
    tried = set(np.linspace(0, max(images - 1, 0), min(_TRIED, images)).round().astype(int))
    number, some, with_depth = 0, list[tuple[Scene, Frame]](), images > 0
    for scene in plan.scenes:
        frames = scene.frames
        for index in scene.wanted:
            frame = frames[index]
            with_depth &= (
                frame.depth is not None and frame.pose is not None and frame.rig is not None
            )
            if number in tried:
                some.append((scene.scene, frame))
            number += 1
    each = 0.0 if link else _image_bytes(some, processing)
    height, width = DEFAULT_SIZE
    return ExpectedWork(
        stride=(min(strides), max(strides)) if strides else None,
        views=views,
        image_bytes=None if each is None else round(each * images),
        cache_bytes=round(views * height * width * bytes_per_pixel(depth_maps=with_depth)),
        teacher_hours=None if teacher_rate is None else views / teacher_rate / 3600,
    )


def expected_table(figures: Sequence[dict[str, Any]]) -> Table:
    """The estimates of all data sets.

    Args:
        figures: Of each data set: those of its plan, and those of `ExpectedWork`.
    """
    return Table("expected", _COLUMNS, tuple(_line(one) for one in figures))


def _line(one: dict[str, Any]) -> tuple[str, ...]:
    low, high = one["stride"] or (0, 0)
    stride = str(low) if low == high else f"{low} to {high}"
    images, hours = one["image_bytes"], one["teacher_hours"]
    return (
        one["dataset"],
        str(one["scenes"]),
        str(one["frames"]),
        stride if one["stride"] else "-",
        str(one["samples"]["train"] + one["samples"]["val"]),
        str(one["images"]),
        "-" if images is None else gigabytes(images),
        gigabytes(one["cache_bytes"]),
        "-" if hours is None else duration(hours * 3600),
    )


def _image_bytes(frames: Sequence[tuple[Scene, Frame]], processing: Processing) -> float | None:
    """Bytes of a processed image, in the mean of a few."""
    sizes = []
    for scene, frame in frames:
        try:
            image = process(_source_of(scene, frame), processing).image
        except (ImageError, ContradictionError):
            continue  # said when the manifest is made
        stored = io.BytesIO()
        Image.fromarray(image).save(stored, "png", compress_level=PNG_LEVEL)
        sizes.append(stored.tell())
    return float(np.mean(sizes)) if sizes else None


def _source_of(scene: Scene, frame: Frame) -> SourceFrame:
    """A frame; of a video whose frames are still in it, the first one."""
    if scene.folder.is_dir() or frame.image.exists():
        return read_source_frame(frame, images_only=True)
    for _, pixels in read_frames(scene.folder, fps=None):
        return SourceFrame(pixels)
    raise ImageError("no frame in it")
