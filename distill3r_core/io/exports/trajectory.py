"""The trajectory of the cameras in the text format of the TUM RGB-D benchmark, which evo reads."""

from collections.abc import Sequence
from pathlib import Path

from distill3r_core.files import write_text
from distill3r_core.io.exports.cameras import Camera, quaternion_of


def write_tum(path: Path, cameras: Sequence[Camera], *, comments: Sequence[str]) -> None:
    """Write a line `timestamp tx ty tz qx qy qz qw` for each camera, camera to world.

    Args:
        cameras: In the order of the views. The timestamp is the number of the view, from 0.
        comments: Lines for the head of the file.
    """
    lines = [f"# {comment}" for comment in comments]
    lines += ["# timestamp (number of the view) tx ty tz qx qy qz qw, camera to world"]
    for number, camera in enumerate(cameras):
        values = [*camera.world_from_cam[:3, 3].tolist(), *quaternion_of(camera)]
        lines.append(" ".join([f"{number}", *(f"{value:.9g}" for value in values)]))
    write_text(path, "\n".join(lines) + "\n")
