"""A file is whole or not there."""

import resource
import signal
import subprocess
import sys

import pytest

from distill3r_core.errors import DiskFullError
from distill3r_core.files import remove_leftovers, replacing, write_text


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
