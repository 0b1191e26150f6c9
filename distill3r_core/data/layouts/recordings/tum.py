"""Layout `tum`: the RGB-D benchmark of TU Munich, and recordings in its form.

`<sequence>/{rgb.txt, depth.txt, groundtruth.txt}`, each line a time stamp and a file or a pose.
The three streams have stamps of their own. Facts: the benchmark's page and `associate.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.recordings.stamps import (
    Trajectory,
    associate,
    is_stamp,
    read_trajectory,
)
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Rig,
    Scene,
)
from distill3r_core.data.matrix_files import read_intrinsics, with_centers_at_half
from distill3r_core.data.table_files import read_table
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.report import counted

_COLOR, _DEPTH, _POSES = "rgb.txt", "depth.txt", "groundtruth.txt"
_UNITS = 5000.0  # stored units in a meter
_RATE = 30.0  # color images a second
# fx fy cx cy of 640x480 images, pixel centers at integers; freiburg1 and 2 are distorted by up to
# k1 = 0.26, which this pinhole leaves out.
_CAMERAS = {
    "freiburg1": (517.306408, 516.469215, 318.643040, 255.313989),
    "freiburg2": (520.908620, 521.007327, 325.141442, 249.701764),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
_ROS_DEFAULT = (525.0, 525.0, 319.5, 239.5)
_DISTORTED = ("freiburg1", "freiburg2")
_OWN_INTRINSICS = ("intrinsics.txt", "calibration.txt")


def _mark(folder: Path) -> str | None:
    is_scene = is_there(folder / _COLOR) and (folder / "rgb").is_dir()
    return f"has {_COLOR} beside rgb" if is_scene else None


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    """One sequence; an image without a partner in another stream is a frame without it."""
    color = _read_stream(folder, _COLOR)
    depth = _read_stream(folder, _DEPTH) if is_there(folder / _DEPTH) else {}
    has_poses = is_there(folder / _POSES)
    poses = read_trajectory(folder / _POSES) if has_poses else Trajectory.of({})
    pairs = associate(list(color), list(depth))
    depth_files = list(depth.values())
    rig, remark = _rig(folder)
    if remark:
        yield Note(f"{scene_id}: {remark}")
    frames = []
    for number, (stamp, image) in enumerate(color.items()):
        there = pairs.get(number)
        frames.append(
            Frame(
                name=image.stem,
                image=image,
                number=round(stamp * _RATE),
                depth=None
                if there is None
                else DepthFile(depth_files[there], scale=_UNITS, any_size=True),
                pose=poses.at(stamp),
                rig=rig,
            )
        )
    alone = len(frames) - len(pairs)
    if depth and alone:
        yield Note(f"{scene_id}: {counted(alone, 'image', 'have')} no depth map within 0.02 s")
    lost = sum(frame.pose is None for frame in frames)
    if has_poses and lost:
        yield Note(f"{scene_id}: {counted(lost, 'image', 'have')} no pose near them in time")
    yield Scene(scene_id, folder, tuple(frames), order="number")


def _read_stream(folder: Path, name: str) -> dict[float, Path]:
    """The files of a list by their stamps, ascending.

    Raises:
        ImageError: The list cannot be read, or a line is not a stamp and a file below the folder.
    """
    found: dict[float, Path] = {}
    for line, words in read_table(folder / name):
        try:
            stamp = float(words[0])
            relative = Path(words[1])
        except (ValueError, IndexError) as error:
            raise ImageError(f"{name}, line {line}: not a time stamp and a file") from error
        if relative.is_absolute() or ".." in relative.parts or not is_stamp(stamp):
            raise ImageError(f"{name}, line {line}: not a file below the folder")
        found[stamp] = folder / relative
    return dict(sorted(found.items()))


def _rig(folder: Path) -> tuple[Rig, str | None]:
    """Intrinsics: a file of the folder, else those that go with its name; and a remark."""
    for name in _OWN_INTRINSICS:
        if is_there(folder / name):
            return Rig(color=with_centers_at_half(read_intrinsics(folder / name))), None
    known = next((name for name in _CAMERAS if name in folder.name.lower()), None)
    fx, fy, cx, cy = _ROS_DEFAULT if known is None else _CAMERAS[known]
    k = with_centers_at_half(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))
    remark = None
    if known is None:
        remark = "no intrinsics.txt, and its name is not one of TUM's: 525 pixels are assumed"
    elif known in _DISTORTED:
        remark = f"{known} images are distorted (k1 about 0.25): its pinhole is right in the middle"
    return Rig(color=k, size=(480, 640), is_nominal=known is None), remark


LAYOUT = Layout(
    name="tum",
    summary="<sequence>/{rgb.txt, depth.txt, groundtruth.txt}, time stamps and files",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scene, sweep=True),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=100, least=2, most=20, video_like=True),
)
