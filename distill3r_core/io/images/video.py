"""Frames of a video, upright. PyAV (the extra `video`) is imported where it is used."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from distill3r_core.errors import ImageError

if TYPE_CHECKING:
    import av.container
    import av.video

_PER_SECOND = 1_000_000  # FFmpeg's unit of a file's duration
_SHORT = 0.1  # of a video's duration without frames, from which that is said
_SLACK = 0.01  # of the interval between two frames: time stamps are rounded


def read_frames(
    path: Path, *, fps: float | None, note: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """The frames of a video in order, each with its number in the file, counted from 0.

    Args:
        path: Path of the video.
        fps: At most so many frames of each second; None: all of them.
        note: ProgressCallback at the end where the file says that it has more than could be read.

    Raises:
        ImageError: The file is no video, is damaged, or has no frame. The message is the reason
            alone.
    """
    import av
    import av.error

    number = -1
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError("no picture track in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            due, last = 0.0, None
            for number, frame in enumerate(container.decode(stream)):
                last = frame.time
                # A stream without time stamps is taken frame by frame.
                if fps is not None and frame.time is not None:
                    if frame.time < due - _SLACK / fps:
                        continue
                    due = (math.floor(frame.time * fps + _SLACK) + 1) / fps
                turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                yield number, np.ascontiguousarray(turned)
            if missing := _missing(container, stream, number + 1, last):
                note(missing)
    except av.error.FFmpegError as error:
        after = f" after {number + 1} frames" if number >= 0 else ""
        raise ImageError(f"not a video, or damaged{after}: {error.strerror}") from error
    if number < 0:
        raise ImageError("no frame in it")


def _missing(
    container: "av.container.InputContainer",
    stream: "av.video.VideoStream",
    decoded: int,
    last: float | None,
) -> str | None:
    """What a file says of its length, where fewer frames came out of it without an error."""
    if stream.frames > decoded > 0:
        return f"it says that it has {stream.frames} frames; {decoded} could be read"
    if stream.frames or not container.duration or last is None:
        return None
    whole = container.duration / _PER_SECOND  # Matroska does not count frames
    if last < (1 - _SHORT) * whole - 1 / float(stream.average_rate or 1):
        return f"it says that it lasts {whole:.1f} s; the last frame is at {last:.1f} s"
    return None
