"""Layout `7scenes`: Microsoft's RGB-D sequences, and trees of the same form.

Facts: nianticlabs/simplerecon (cameras and the motion between them), the data set's own page
(poses are those of the depth camera, camera to world, metres).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.base import (
    Frame,
    Refused,
    Rig,
    Scan,
    Scene,
    dataset_name,
    entries_of,
    folders_below,
    scene_id_of,
)
from distill3r_core.data.layouts.split_files import read_split_files, split_notes

NAME = "7scenes"
_SEARCH_DEPTH = 3
_FILE = re.compile(r"frame-(\d+)\.(color|depth|pose)\.(png|jpg|txt)", re.IGNORECASE)
_COLORS = ("color.png", "color.jpg")

# The recipe rounds to whole pixel coordinates when it projects into the color picture, so there
# (320, 240) is a pixel's center; in the depth picture it adds 0.5 first, so there it is a corner.
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
    farthest=10.0,  # both invalid codes, 0 and 65535, and what the sensor cannot see
    unit="m",
)


def detect(root: Path) -> bool:
    """Whether a folder at most three levels down holds `frame-NNNNNN.color.*`."""
    if not root.is_dir():
        return False
    return any(_is_sequence(folder) for folder in _folders(root, _SEARCH_DEPTH))


def scan(root: Path, *, skip: Path | None = None) -> tuple[Scan, ...]:
    """List the sequences below a folder: of all scenes, of one, or one sequence alone.

    Args:
        root: A folder.
        skip: A folder to leave out: that of the results.
    """
    scenes: list[Scene] = []
    present: dict[Path, set[str]] = {}
    folders, refused = folders_below(root, skip=skip, wanted=_is_sequence)
    for folder in folders:
        frames, lost = _frames(folder)
        refused += lost
        present.setdefault(folder.parent, set()).add(folder.name)
        files = read_split_files(folder.parent)
        scenes.append(
            Scene(
                scene_id=scene_id_of(folder, root),
                folder=folder,
                frames=tuple(frames),
                order="number",
                split=files.split_of(folder.name),
                is_test=files.is_test(folder.name),
            )
        )
    notes = []
    for parent, names in present.items():
        notes += split_notes(read_split_files(parent), names, parent.name)
    return (
        Scan(
            dataset=dataset_name(root),
            layout=NAME,
            root=root,
            scenes=tuple(scenes),
            policy_name=NAME,
            refused=tuple(dict.fromkeys(refused)),
            notes=tuple(notes),
        ),
    )


def _frames(folder: Path) -> tuple[list[Frame], list[Refused]]:
    """Frames by number, and those that have depth or a pose but no picture."""
    numbers: dict[int, str] = {}
    names = {entry.name for entry in entries_of(folder)[0] if entry.is_file()}
    for name in names:
        if match := _FILE.fullmatch(name):
            numbers[int(match.group(1))] = match.group(1)
    frames, refused = [], []
    for number, digits in sorted(numbers.items()):
        stem = f"frame-{digits}"
        color = next((f"{stem}.{end}" for end in _COLORS if f"{stem}.{end}" in names), None)
        if color is None:
            refused.append(Refused(folder / f"{stem}.color.png", "no color picture of this frame"))
            continue
        frames.append(
            Frame(
                name=stem,
                color=folder / color,
                number=number,
                depth=folder / f"{stem}.depth.png",
                pose=folder / f"{stem}.pose.txt",
                rig=RIG,
            )
        )
    return frames, refused


def _is_sequence(folder: Path) -> bool:
    return any(
        (match := _FILE.fullmatch(entry.name)) is not None and match.group(2).lower() == "color"
        for entry in entries_of(folder)[0]
    )


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """A folder and those below it, to a depth; hidden ones are left out."""
    yield root
    if depth > 0:
        for entry in entries_of(root)[0]:
            if entry.is_dir():
                yield from _folders(root / entry.name, depth - 1)
