"""A file is whole or not there."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from distill3r_core.data.known_poses import read_known_poses
from distill3r_core.errors import DiskFullError, ImageError, RequestError, UnsafeFileError
from distill3r_core.files import (
    read_file,
    read_own,
    read_text_file,
    remove_leftovers,
    replacing,
    write_text,
)
from distill3r_core.io.images.depth_codecs import read_pfm
from distill3r_core.io.images.media_kinds import media_kind


def test_a_failed_write_leaves_what_was_there_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_with_the_path_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskFullError, match=r"a\.txt"):
            write_text(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sys, pathlib
from distill3r_core.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as beside:
    beside.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "picture.png"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=60)
    (left,) = path.parent.iterdir()
    assert left.suffix == ".png" and not path.exists()
    others = [
        path.parent / name for name in (".mine.partial.png", "a.1.partial.png", ".b.1x.partial")
    ]
    for other in others:
        other.write_text("mine")
    with replacing(tmp_path / "b.txt") as ours:
        ours.write_text("being written")
        remove_leftovers(tmp_path)
        assert ours.is_file()
    assert sorted(path.parent.iterdir()) == sorted(others)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_no_file(tmp_path, kind):
    path = tmp_path / "poses"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for read in (read_file, read_text_file):
        with pytest.raises(OSError, match="a device, a pipe") as error:
            read(path)
        assert str(path) in str(error.value)
    with pytest.raises(UnsafeFileError, match="poses is a device or a pipe, where"):
        read_own(path)
    with pytest.raises(RequestError, match="poses is a pipe or a device, which cannot be read"):
        read_known_poses(path)
    with pytest.raises(ImageError, match="a device, a pipe"):
        read_pfm(path)
    assert media_kind(path) is None


def test_a_text_is_read_through_a_link_with_any_ends_of_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffé\r\nb\rc\n".encode())
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    assert read_text_file(tmp_path / "link", encoding="utf-8-sig") == "é\nb\nc\n"
    assert read_own(tmp_path / "link") == (tmp_path / "a.txt").read_bytes()
