"""Layout `7scenes`: Microsoft's RGB-D sequences, and trees of the same form.

Facts: nianticlabs/simplerecon (cameras and the motion between them), the data set's own page
(poses are those of the depth camera, camera to world, meters).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.folders import entries_of, frame_key, names_in, one_dataset
from distill3r_core.data.layouts.marked_scenes import marked_scenes
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.layouts.split_files import read_split_files, split_notes
from distill3r_core.data.windows import Policy
from distill3r_core.files import is_there

_FILE = re.compile(r"frame-(\d+)\.(color|depth|pose)\.(png|jpg|txt)", re.IGNORECASE)
_COLORS = ("color.png", "color.jpg")
_OF_SCANNET = "_info.txt"  # its exporter gives frames these names too, and writes their cameras

# The recipe rounds to whole pixel coordinates when it projects into the color image, so there
# (320, 240) is a pixel's center; in the depth image it adds 0.5 first, so there it is a corner.
_COLOR_FROM_DEPTH = (
    (0.99996518012567637, 0.0026765126468950343, -0.0079041012313000904, -0.025558943178152542),
    (-0.0027409311281316700, 0.99996302803027592, -0.0081504520778013286, 0.00010109636268061706),
    (0.0078819942130445332, 0.0081718328771890631, 0.99993554558014031, 0.0020318321729487039),
    (0.0, 0.0, 0.0, 1.0),
)
RIG = Rig(
    color=np.array([[525.0, 0, 320.5], [0, 525.0, 240.5], [0, 0, 1]]),
    size=(480, 640),
    depth=np.array([[585.0, 0, 320.0], [0, 585.0, 240.0], [0, 0, 1]]),
    color_from_depth=np.array(_COLOR_FROM_DEPTH),
    is_nominal=True,  # the Kinect's, for every recording
)
_FARTHEST = 10.0  # meters, beyond which the sensor cannot see


def _mark(folder: Path) -> str | None:
    matches = (_FILE.fullmatch(name) for name in names_in(folder))
    colors = [match.group() for match in matches if match and match.group(2).lower() == "color"]
    if not colors or is_there(folder / _OF_SCANNET):
        return None
    return f"holds {min(colors, key=frame_key)}"


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    """The sequences below a folder: of all scenes, of one, or one sequence alone."""
    present: dict[Path, set[str]] = {}
    for listed in marked_scenes(root, skip, _mark, _list_sequence, sweep=True):
        yield listed
        if isinstance(listed, Scene):
            present.setdefault(listed.folder.parent, set()).add(listed.folder.name)
    for parent, names in present.items():
        for text in split_notes(read_split_files(parent), names, parent.name):
            yield Note(text)


def _list_sequence(folder: Path, scene_id: str) -> Iterator[Listed]:
    numbers: dict[int, str] = {}
    # By their names in lower case: suffixes may be in capitals.
    names = {e.name.lower(): e.name for e in entries_of(folder)[0] if e.is_file()}
    for name in names:
        if match := _FILE.fullmatch(name):
            numbers[int(match.group(1))] = match.group(1)
    frames = []
    for number, digits in sorted(numbers.items()):
        stem = f"frame-{digits}"
        color = next((names[f"{stem}.{end}"] for end in _COLORS if f"{stem}.{end}" in names), None)
        depth, pose = (
            folder / names.get(f"{stem}.{end}", f"{stem}.{end}")
            for end in ("depth.png", "pose.txt")
        )
        if color is None:
            yield Refused(
                folder / f"{stem}.color.png", "no color picture of this frame", is_frame=True
            )
            continue
        frames.append(
            Frame(
                name=stem,
                image=folder / color,
                number=number,
                depth=DepthFile(depth, farthest=_FARTHEST),
                pose=pose,
                rig=RIG,
            )
        )
    files = read_split_files(folder.parent)
    yield Scene(
        scene_id=scene_id,
        folder=folder,
        frames=tuple(frames),
        order="number",
        split=files.split_of(folder.name),
        is_test=files.is_test(folder.name),
    )


LAYOUT = Layout(
    name="7scenes",
    summary="<scene>/seq-NN/frame-NNNNNN.{color.png, depth.png, pose.txt}",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=100, least=2, most=20, video_like=True),
    shared_world=True,
)
