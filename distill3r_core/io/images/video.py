"""Frames of a video: upright, with square pixels, in sRGB.

PyAV (the extra `video`) is imported where it is used.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.io.images.color import CodedColor, coded_to_srgb
from distill3r_core.io.images.decode import MAX_PIXELS

if TYPE_CHECKING:
    import av.container
    import av.video

_UNSPECIFIED, _BT2020_MATRIX = 2, 9  # of ITU-T H.273
_MAX_ASPECT = 8  # of a pixel's sides; what claims more is damaged
_PER_SECOND = 1_000_000  # FFmpeg's unit of a file's duration
_SHORT = 0.1  # of a video's duration without frames, from which that is said
_FEW_BYTES, _PER_BYTE = 9_000_000, 1000  # pixels of a frame: of any file (4K), of a byte
# Pixels of all frames together, as they are shown, of a file of few bytes: decoding takes seconds.
_FEW_BYTES_TOTAL, _FEW_BYTES_FILE = 150_000_000, 1 << 16
_SLACK = 0.01  # of the interval between two frames: time stamps are rounded


def opens(path: Path) -> bool:
    """Whether a file is a video by its header; without PyAV, what is named like one is."""
    if util.find_spec("av") is None:
        return True
    if not path.is_file():
        return False
    import av
    import av.error

    try:
        with av.open(str(path)) as container:
            return bool(container.streams.video)
    except (av.error.FFmpegError, OSError):
        return False


def read_frames(
    path: Path, *, fps: float | None, note: Callable[[str], None] = lambda text: None
) -> Iterator[tuple[int, UInt8[np.ndarray, "H W 3"]]]:
    """The frames of a video in order, each with its number in the file, counted from 0.

    Args:
        path: Path of the video.
        fps: At most so many frames of each second; None: all of them.
        note: Called with what was decided in reading the file: colors or pixels that were
            converted; and at the end how many frames were taken, where not all were, and that the
            file says that it has more than could be read.

    Raises:
        ImageError: The file is no video, is damaged, or has no frame. The message is the reason
            alone.
    """
    import av
    import av.error

    if is_there(path) and not path.is_file():
        raise ImageError("not a file, but a device or a pipe")
    number = -1
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError("no picture track in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"max_pixels": str(_most_pixels(path))}
            aspect = _pixel_aspect(stream)
            pace, last, described, taken = _Pace(fps), None, False, 0
            size = path.stat().st_size
            left = _FEW_BYTES_TOTAL if size < _FEW_BYTES_FILE else math.inf
            for number, frame in enumerate(container.decode(stream)):
                last = frame.time
                left -= frame.width * frame.height * max(aspect, 1 / aspect)
                if left < 0:
                    raise ImageError(
                        f"has more than {_FEW_BYTES_TOTAL / 1e6:.0f} million pixels in {size} bytes"
                    )
                if not pace.takes(frame.time):
                    continue
                pixels = _squared(_srgb(frame), aspect)
                if not described:
                    described = True
                    for text in _conversions(frame, aspect, pixels.shape[:2]):
                        note(text)
                taken += 1
                yield number, np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
            if taken <= number:
                note(f"{taken} of {number + 1} frames taken, at most {fps:g} a second")
            if missing := _missing(container, stream, number + 1, last):
                note(missing)
    except av.error.FFmpegError as error:
        after = f" after {number + 1} frames" if number >= 0 else ""
        raise ImageError(f"not a video, or damaged{after}: {error.strerror}") from error
    if number < 0:
        raise ImageError("no frame in it")


def expected_frames(path: Path, *, fps: float) -> tuple[int, list[int]]:
    """How many frames a video has, and the numbers of those that `read_frames` would take.

    By the time stamps in the file: nothing is decoded, so damage is not noticed.

    Raises:
        ImageError: The file is no video, or has no frame. The message is the reason alone.
    """
    import av
    import av.error

    if is_there(path) and not path.is_file():
        raise ImageError("not a file, but a device or a pipe")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError("no picture track in it")
            packets = [
                packet.dts if packet.pts is None else packet.pts
                for packet in container.demux(container.streams.video[0])
                if packet.size and not packet.is_discard
            ]
            unit = container.streams.video[0].time_base
    except av.error.FFmpegError as error:
        raise ImageError(f"not a video, or damaged: {error.strerror}") from error
    if not packets:
        raise ImageError("no frame in it")
    known = [stamp for stamp in packets if stamp is not None]
    times = [float(stamp * unit) for stamp in sorted(known)] if unit is not None else []
    if len(times) < len(packets):
        return len(packets), list(range(len(packets)))
    pace = _Pace(fps)
    return len(packets), [number for number, time in enumerate(times) if pace.takes(time)]


@dataclass
class _Pace:
    """Which frames to take: at most so many of each second; None: all of them."""

    fps: float | None
    due: float = 0.0

    def takes(self, time: float | None) -> bool:
        """Whether to take the next frame in order, which is shown at a time."""
        # A stream without time stamps is taken frame by frame.
        if self.fps is None or time is None:
            return True
        if time < self.due - _SLACK / self.fps:
            return False
        self.due = (math.floor(time * self.fps + _SLACK) + 1) / self.fps
        return True


def _most_pixels(path: Path) -> int:
    """Pixels that a frame may have: in a few bytes no more than a blank one of a real video."""
    return min(max(_FEW_BYTES, _PER_BYTE * path.stat().st_size), MAX_PIXELS)


def _srgb(frame: "av.video.VideoFrame") -> UInt8[np.ndarray, "H W 3"]:
    """The frame as it is stored, in sRGB."""
    color = _color_of(frame)
    if color.name is None:
        return frame.to_ndarray(format="rgb24")
    matrix = None
    if int(frame.colorspace) == _UNSPECIFIED and color.is_hdr:
        matrix = _BT2020_MATRIX
    signal = frame.to_ndarray(format="rgb48le", src_colorspace=matrix)
    return coded_to_srgb(signal, color)


def _color_of(frame: "av.video.VideoFrame") -> CodedColor:
    return CodedColor(int(frame.color_primaries), int(frame.color_trc))


def _pixel_aspect(stream: "av.video.VideoStream") -> Fraction:
    """Width of a pixel over its height; 1 where the file does not say."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not aspect or aspect <= 0:
        return Fraction(1)
    if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        raise ImageError(f"claims pixels of {aspect.numerator}:{aspect.denominator}")
    return Fraction(aspect)


def _squared(pixels: UInt8[np.ndarray, "H W 3"], aspect: Fraction) -> UInt8[np.ndarray, "h w 3"]:
    """The frame with square pixels: the side that has too few of them is enlarged."""
    if aspect == 1:
        return pixels
    height, width, _ = pixels.shape
    wide = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return np.asarray(Image.fromarray(pixels).resize(wide, Image.Resampling.BICUBIC))


def _conversions(
    frame: "av.video.VideoFrame", aspect: Fraction, size: tuple[int, ...]
) -> Iterator[str]:
    if (name := _color_of(frame).name) is not None:
        yield f"{name}, brought to sRGB"
    if aspect != 1:
        yield (
            f"pixels of {aspect.numerator}:{aspect.denominator} made square: "
            f"{frame.width}x{frame.height} to {size[1]}x{size[0]}"
        )


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
