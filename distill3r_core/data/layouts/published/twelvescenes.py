"""Layout `12scenes`: the RGB-D scans of 12-Scenes.

`<place>/<room>/{data/frame-NNNNNN.{color.jpg, depth.png, pose.txt}, info.txt, split.txt}`; one
folder holds all sequences of a room, which `split.txt` cuts; `sequence0` is the test part. Facts:
nianticlabs/ace, vislearn/dsacstar.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.layouts.folders import entries_of
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Scene,
)
from distill3r_core.data.layouts.scan_info import read_color_rig
from distill3r_core.data.matrix_files import read_tracked_pose
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, read_text_file, refuse_special
from distill3r_core.report import counted

_IMAGE = re.compile(r"frame-(\d+)\.color\.(jpg|png)", re.IGNORECASE)
_PART = re.compile(
    r"(sequence\d{1,9})\s*\[frames=(\d{1,9})\]\s*\[start=(\d{1,9})\s*;\s*end=(\d{1,9})\]"
)
_TEST = "sequence0"


def _mark(folder: Path) -> str | None:
    is_room = is_there(folder / "info.txt") and (folder / "data").is_dir()
    return "has info.txt beside data" if is_room else None


def _list_room(folder: Path, room: str) -> Iterator[Listed]:
    rig = read_color_rig(folder / "info.txt")
    parts = _parts(folder / "split.txt")
    if not parts:
        yield Note(f"{room}: no split.txt: all frames are one sequence")
    images = {
        int(match.group(1)): folder / "data" / entry.name
        for entry in entries_of(folder / "data")[0]
        if (match := _IMAGE.fullmatch(entry.name))
    }
    frames, lost = dict[int, Frame](), 0
    for number, image in images.items():
        stem = image.name.split(".")[0]
        pose = image.with_name(f"{stem}.pose.txt")
        is_lost = read_tracked_pose(pose) is None
        lost += is_lost
        frames[number] = Frame(
            name=stem,
            image=image,
            number=number,
            depth=DepthFile(image.with_name(f"{stem}.depth.png"), any_size=True),
            pose=None if is_lost else pose,
            rig=rig,
        )
    if lost:
        unposed = counted(lost, "frame", "have", of=len(frames))
        yield Note(f"{room}: {unposed} no pose: tracking was lost")
    for name, first, last in parts or (("", 0, max(frames, default=0)),):
        yield Scene(
            scene_id=f"{room}/{name}" if name else room,
            folder=folder,
            frames=tuple(frames[n] for n in sorted(frames) if first <= n <= last),
            order="number",
            split=None if not name else ("val" if name == _TEST else "train"),
            is_test=name in ("", _TEST),
        )


def _parts(path: Path) -> list[tuple[str, int, int]]:
    """Name, first and last frame of each sequence; none: there is no such file.

    Raises:
        ImageError: The file has a line of another form.
        RequestError: It is a pipe or a device.
        OSError: It cannot be read.
    """
    if not is_there(path):
        return []
    refuse_special(path)
    found = []
    for line in read_text_file(path, errors="replace").splitlines():
        if line.strip():
            match = _PART.search(line)
            if match is None:
                raise ImageError(f"split.txt has a line of another form: {line[:60]!r}")
            found.append((match.group(1), int(match.group(3)), int(match.group(4))))
    return found


LAYOUT = Layout(
    name="12scenes",
    summary="<place>/<room>/{data/frame-NNNNNN.{color,depth,pose}, info.txt, split.txt}",
    mark=_mark,
    scan=marked_dataset(_mark, _list_room),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=100, least=2, most=20, video_like=True),
    shared_world=True,
)
