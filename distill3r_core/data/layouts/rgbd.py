"""Layout `rgbd`, the plain one: color, registered depth, poses and intrinsics, one file each.

`<scene>/{rgb/NNNNNN.png|jpg, depth/NNNNNN.png (16-bit millimetres, 0 invalid), pose/NNNNNN.txt
(4x4 world_from_cam, metres), intrinsics.txt (3x3, centers at +0.5)}`.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts.base import (
    Frame,
    Refused,
    Rig,
    Scan,
    Scene,
    dataset_name,
    entries_of,
    folders_below,
    frame_key,
    list_folder,
    order_of,
    scene_id_of,
    walk,
)
from distill3r_core.data.layouts.split_files import read_split_files, split_notes
from distill3r_core.data.matrix_files import read_matrix
from distill3r_core.errors import ImageError

NAME = "rgbd"
_INTRINSICS = "intrinsics.txt"


def detect(root: Path) -> bool:
    """Whether some folder below has `rgb/` and one of `depth/`, `pose/`, `intrinsics.txt`."""
    return root.is_dir() and any(_is_scene(folder) for folder, _ in walk(root))


def scan(root: Path, *, skip: Path | None = None) -> tuple[Scan, ...]:
    """List the scenes below a folder, or the one it is.

    Args:
        root: A folder.
        skip: A folder to leave out: that of the results.
    """
    scenes: list[Scene] = []
    files = read_split_files(root)
    folders, refused = folders_below(root, skip=skip, wanted=_is_scene)
    for folder in folders:
        scene_id = scene_id_of(folder, root)
        frames, lost = _frames(folder)
        refused += lost
        scenes.append(
            Scene(
                scene_id=scene_id,
                folder=folder,
                frames=frames,
                order=order_of(frame.name for frame in frames),
                split=files.split_of(scene_id),
                is_test=files.is_test(scene_id),
            )
        )
    present = {scene.scene_id for scene in scenes}
    return (
        Scan(
            dataset=dataset_name(root),
            layout=NAME,
            root=root,
            scenes=tuple(scenes),
            refused=tuple(dict.fromkeys(refused)),
            notes=tuple(split_notes(files, present, dataset_name(root))),
        ),
    )


def _frames(folder: Path) -> tuple[tuple[Frame, ...], list[Refused]]:
    listing = list_folder(folder / "rgb")
    refused = listing.refused
    rig = None
    try:
        rig = Rig(color=_read_intrinsics(folder / _INTRINSICS))
    except ImageError as error:
        refused.append(Refused(folder / _INTRINSICS, str(error)))
    stems = {path.stem for path in listing.pictures}
    for path in _stems_of(folder / "depth", ".png") | _stems_of(folder / "pose", ".txt"):
        if path not in stems:
            refused.append(Refused(folder / "rgb" / path, "no color picture of this frame"))
    frames = tuple(
        Frame(
            name=path.stem,
            color=path,
            number=int(path.stem) if path.stem.isdecimal() else None,
            depth=folder / "depth" / f"{path.stem}.png",
            pose=folder / "pose" / f"{path.stem}.txt",
            rig=rig,
        )
        for path in listing.pictures
    )
    refused.sort(key=lambda item: frame_key(str(item.path)))
    return frames, refused


def _read_intrinsics(path: Path) -> Float[np.ndarray, "3 3"]:
    intrinsics = read_matrix(path, 3, what="intrinsics")
    if min(intrinsics[0, 0], intrinsics[1, 1]) <= 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise ImageError("intrinsics are not those of a camera: fx 0 cx, 0 fy cy, 0 0 1")
    return intrinsics


def _stems_of(folder: Path, suffix: str) -> set[str]:
    paths = (Path(entry.name) for entry in entries_of(folder)[0]) if folder.is_dir() else ()
    return {path.stem for path in paths if path.suffix.lower() == suffix}


def _is_scene(folder: Path) -> bool:
    others = (folder / "depth", folder / "pose", folder / _INTRINSICS)
    return (folder / "rgb").is_dir() and any(path.exists() for path in others)
