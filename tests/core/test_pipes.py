"""Pipes and devices where a file is expected: named, never waited for, never taken for absent."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import sevenscenes_sequence

from distill3r_core import config, plugins
from distill3r_core.data.frame_reader import read_frame_pose
from distill3r_core.data.known_poses import read_known_poses
from distill3r_core.data.layouts import scan
from distill3r_core.data.layouts.split_files import read_split_files
from distill3r_core.data.listing import list_dataset
from distill3r_core.errors import (
    ConfigError,
    ImageError,
    InputMissingError,
    RequestError,
    UnsafeFileError,
)
from distill3r_core.files import is_there, read_own
from distill3r_core.io.checksums import file_hash
from distill3r_core.io.images import video
from distill3r_core.reconstruction.cameras.camera_options import parse_intrinsics
from distill3r_core.stages.train import TrainSettings


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A pipe that nobody writes to: a read of it would wait for ever."""
    path = tmp_path / "pipe.txt"
    os.mkfifo(path)
    signal.alarm(60)
    yield path
    signal.alarm(0)


def test_a_pipe_that_an_option_names_is_refused_as_one_that_cannot_be_read_twice(pipe):
    for read in (
        lambda: read_known_poses(pipe),
        lambda: parse_intrinsics(str(pipe)),
        lambda: config.resolve(TrainSettings, section="train", config=str(pipe)),
    ):
        with pytest.raises(RequestError, match=r"pipe\.txt is a pipe or a device"):
            read()


def test_a_plugin_that_is_a_pipe_is_named(pipe):
    with pytest.raises(ConfigError, match=r"pipe\.txt: not a file, but a device, a pipe"):
        plugins.load(pipe)


def test_what_is_absent_is_still_said_to_be_absent(tmp_path):
    with pytest.raises(InputMissingError, match="no such file"):
        read_known_poses(tmp_path / "none.txt")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("none", "broken", "loop", ".", "a\0b", 256 * "x", 5000 * "x/"):
        assert not is_there(tmp_path / name)


def test_a_pipe_as_split_file_is_no_other_split(pipe):
    pipe.rename(pipe.with_name("TrainSplit.txt"))
    with pytest.raises(RequestError, match=r"TrainSplit\.txt is a pipe or a device"):
        read_split_files(pipe.parent)


def test_pipes_as_poses_are_not_absent_ones(tmp_path):
    sequence = sevenscenes_sequence(tmp_path / "chess/seq-01", 1)
    (pose,) = sequence.glob("*.pose.txt")
    pose.unlink()
    os.mkfifo(pose)
    (scene,) = list_dataset(scan(tmp_path, "7scenes")[0]).scenes
    with pytest.raises(
        ImageError, match=r"pose cannot be read: .*not a file, but a device, a pipe"
    ):
        read_frame_pose(scene.frames[0])


def test_a_pipe_in_place_of_an_own_file_is_not_called_a_link(pipe):
    with pytest.raises(UnsafeFileError, match="is a device or a pipe, where"):
        read_own(pipe)
    with pytest.raises(OSError, match="not a file"):
        file_hash(pipe)


def test_a_pipe_as_video_is_named(pipe):
    pytest.importorskip("av")
    assert not video.opens(pipe)
    with pytest.raises(ImageError, match="a device or a pipe"):
        next(video.read_frames(pipe, fps=None))
