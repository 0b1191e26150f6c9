"""Layout `open3d`: what Open3D's RealSense recorder writes.

`{color/NNNNNN.jpg, depth/NNNNNN.png, camera_intrinsic.json}`: depth aligned to color, no poses.
Depth in colors, as `rs-convert -p` writes it, is none.
Facts: isl-org/Open3D `realsense_recorder.py`.
"""

from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.layouts.camera_files import read_open3d_camera
from distill3r_core.data.layouts.folders import entries_of, frame_key, order_of
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Refused,
    Scene,
)
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.io.images.decode import read_header
from distill3r_core.io.images.media_kinds import IMAGE_SUFFIXES

_IN_COLORS = (
    "its depth is 8-bit, for the eye, and holds no distances: record again with Open3D's "
    "realsense_recorder.py --record_imgs, or extract the raw depth (16-bit PNG, .npy) and name it "
    "in a file of the layout pattern"
)
_INTRINSICS = "camera_intrinsic.json"


def _mark(folder: Path) -> str | None:
    is_scene = (folder / "color").is_dir() and is_there(folder / _INTRINSICS)
    return f"has color, depth and {_INTRINSICS}" if is_scene else None


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    try:
        rig = read_open3d_camera(folder / _INTRINSICS)
    except ImageError as error:
        yield Refused(folder / _INTRINSICS, str(error))
        return
    names = sorted((entry.name for entry in entries_of(folder / "color")[0]), key=frame_key)
    images = [folder / "color" / name for name in names]
    images = [path for path in images if path.suffix.lower() in IMAGE_SUFFIXES]
    frames = tuple(
        Frame(
            name=image.stem,
            image=image,
            number=int(image.stem) if image.stem.isdecimal() else None,
            depth=DepthFile(folder / "depth" / f"{image.stem}.png"),
            rig=rig,
        )
        for image in images
    )
    scene = Scene(scene_id, folder, frames, order=order_of(path.stem for path in images))
    depths = (frame.depth.path for frame in frames if frame.depth is not None)
    first = next((path for path in depths if is_there(path)), None)
    if first is not None and _is_shown(first):
        yield Refused(folder / "depth", _IN_COLORS, images=scene)
    else:
        yield scene


def _is_shown(path: Path) -> bool:
    """Whether a depth map is an image of 8 bits, for people to look at."""
    header = read_header(path)
    return header is not None and not header[0].startswith(("I", "F"))


LAYOUT = Layout(
    name="open3d",
    summary="{color, depth, camera_intrinsic.json}, without poses",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scene, sweep=True),
    carries=frozenset({"depth", "intrinsics"}),
)
