"""Layout `polycam`: raw data that Polycam exports (iOS, developer mode).

`keyframes/{images, cameras, corrected_images, corrected_cameras, depth, confidence}/<stamp>.*`;
the corrected images and cameras are taken where both are there, never mixed with the others.
Facts: PolyCam/polyform.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.folders import entries_of
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    LeftOut,
    Listed,
    Note,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, read_text_file
from distill3r_core.untrusted.printable import reason_of

_FRAMES = "keyframes"
# OverflowError: a size of 1e999.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError)
_CONFIDENT = 255  # of 0, 127 and 255


def _mark(folder: Path) -> str | None:
    frames = folder / _FRAMES
    is_capture = (frames / "images").is_dir() and (frames / "cameras").is_dir()
    return f"has {_FRAMES} with cameras" if is_capture else None


def _list_capture(folder: Path, scene_id: str) -> Iterator[Listed]:
    place = folder / _FRAMES
    corrected = (place / "corrected_images").is_dir() and (place / "corrected_cameras").is_dir()
    kind = "corrected_" if corrected else ""
    if corrected:
        yield Note(f"{scene_id}: the corrected images and cameras are taken")
    frames = []
    for entry in entries_of(place / f"{kind}images")[0]:
        image = place / f"{kind}images" / entry.name
        if not image.stem.isdecimal():
            continue
        camera = place / f"{kind}cameras" / f"{image.stem}.json"
        if not is_there(camera):
            yield LeftOut(image, "no camera of this image")
            continue
        try:
            pose, rig = _camera(camera)
        except ImageError as error:
            yield Refused(image, str(error), is_frame=True)
            continue
        depth = place / "depth" / f"{image.stem}.png"
        confidence = place / "confidence" / f"{image.stem}.png"
        frames.append(
            Frame(
                name=image.stem,
                image=image,
                pose=pose,
                pose_axes="opengl",
                depth=DepthFile(
                    depth,
                    valid=confidence if is_there(confidence) else None,
                    min_valid=_CONFIDENT,
                    any_size=True,
                )
                if is_there(depth)
                else None,
                rig=rig,
            )
        )
    frames.sort(key=lambda frame: int(frame.name))
    yield Scene(scene_id, folder, tuple(frames), order="number")


def _camera(path: Path) -> tuple[np.ndarray, Rig]:
    """world_from_cam with OpenGL axes, and K.

    Raises:
        ImageError: The file is damaged.
    """
    try:
        content = json.loads(read_text_file(path))
        pose = np.eye(4)
        pose[:3] = [[float(content[f"t_{row}{column}"]) for column in range(4)] for row in range(3)]
        fx, fy, cx, cy = (float(content[name]) for name in ("fx", "fy", "cx", "cy"))
        size = (int(content["height"]), int(content["width"]))
    except _DAMAGED as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    return pose, Rig(checked_intrinsics(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])), size)


LAYOUT = Layout(
    name="polycam",
    summary="keyframes/{images, cameras, depth, confidence}",
    mark=_mark,
    scan=marked_dataset(_mark, _list_capture, sweep=True),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", most=1, video_like=True),
)
