"""Frames of a video, upright. PyAV (the extra `video`) is imported where it is used."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from distill3r_core.errors import ImageError

_SLACK = 0.01  # of the interval between two frames: time stamps are rounded


def read_frames(
    path: Path, *, fps: float | None
) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """The frames of a video in order, each with its number in the file, counted from 0.

    Args:
        path: Of the video.
        fps: At most so many frames of each second; None: all of them.

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
            due = 0.0
            for number, frame in enumerate(container.decode(stream)):
                # A stream without time stamps is taken frame by frame.
                if fps is not None and frame.time is not None:
                    if frame.time < due - _SLACK / fps:
                        continue
                    due = (math.floor(frame.time * fps + _SLACK) + 1) / fps
                turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                yield number, np.ascontiguousarray(turned)
    except av.error.FFmpegError as error:
        after = f" after {number + 1} frames" if number >= 0 else ""
        raise ImageError(f"not a video, or damaged{after}: {error.strerror}") from error
    if number < 0:
        raise ImageError("no frame in it")
