"""Frames of a video: all of them, in order, upright."""

import re
from typing import Literal

import numpy as np
import pytest

from distill3r_core.errors import ImageError
from distill3r_core.io.images.video import expected_frames, read_frames

pytest.importorskip("av")

# Where a track's matrix stands behind its name in the file, and a quarter turn clockwise (16.16).
_MATRIX = 4 + 40
_QUARTER = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()


@pytest.fixture
def clip(data_dir):
    return data_dir / "video" / "kitchen.mp4"


def test_every_frame_comes_in_order(clip):
    frames = list(read_frames(clip, fps=None))
    assert [number for number, _ in frames] == list(range(17))
    assert {pixels.shape for _, pixels in frames} == {(480, 640, 3)}
    assert len({pixels.tobytes() for _, pixels in frames}) == 17


@pytest.mark.parametrize(
    ("fps", "numbers"),
    [(100.0, range(17)), (0.5, range(0, 17, 2)), (0.3, (0, 4, 7, 10, 14))],
)
def test_a_rate_takes_the_first_frame_of_each_interval(clip, fps, numbers):
    assert [number for number, _ in read_frames(clip, fps=fps)] == list(numbers)


def test_a_video_that_was_filmed_upright_stands_upright(clip, tmp_path):
    data = clip.read_bytes()
    place = data.index(b"tkhd") + _MATRIX
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data[:place] + _QUARTER + data[place + 36 :])
    (_, stored), (_, shown) = next(read_frames(clip, fps=None)), next(read_frames(turned, fps=None))
    np.testing.assert_array_equal(shown, np.rot90(stored, -1))


@pytest.mark.parametrize("name", ["truncated.mp4", "text_named.mp4", "zero_byte.mp4"])
def test_a_broken_video_is_refused(data_dir, name):
    with pytest.raises(ImageError, match="not a video"):
        list(read_frames(data_dir / "bad" / name, fps=None))


def test_a_video_that_breaks_off_is_refused_after_its_good_frames(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat")
    data[start + len(data) // 3 : start + len(data) // 3 + 60_000] = bytes(60_000)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        list(read_frames(broken, fps=None))


def _write(path, count=40, codec: Literal["mpeg4", "libx264"] = "mpeg4"):
    """A video of noise, ten frames a second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(count):
            pixels = np.random.default_rng(index).integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("suffix", "says"),
    [("avi", r"it has 40 frames; (\d+) could"), ("mkv", r"lasts 4\.0 s; the last frame is at 1\.")],
)
def test_a_video_that_ends_early_without_an_error_says_what_is_missing(tmp_path, suffix, says):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    _write(whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    told = []
    assert len(list(read_frames(whole, fps=None, note=told.append))) == 40 and told == []
    count = len(list(read_frames(cut, fps=None, note=told.append)))
    assert 0 < count < 40 and len(told) == 1
    found = re.search(says, told[0])
    assert found and found.groups() in ((), (str(count),))


@pytest.mark.parametrize("fps", [100.0, 3.0, 1.7])
@pytest.mark.parametrize(
    ("suffix", "codec"),
    # libx264 stores frames in another order than they are shown in; AVI has no time stamps.
    [("mp4", "libx264"), ("mkv", "libx264"), ("mp4", "mpeg4"), ("avi", "mpeg4")],
)
def test_the_frames_that_will_be_taken_are_known_before(tmp_path, suffix, codec, fps):
    _write(path := tmp_path / f"clip.{suffix}", codec=codec)
    taken = [number for number, _ in read_frames(path, fps=fps)]
    assert expected_frames(path, fps=fps) == (40, taken)


@pytest.mark.parametrize("name", ["truncated.mp4", "text_named.mp4", "zero_byte.mp4"])
def test_no_frames_are_expected_of_a_broken_video(data_dir, name):
    with pytest.raises(ImageError, match="not a video"):
        expected_frames(data_dir / "bad" / name, fps=2.0)
