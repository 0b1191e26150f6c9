"""An entry of a data file with patterns, and what the layout `pattern` lists by it."""

from pathlib import Path

from distill3r_core.data.layouts import Frame, Note, Refused, Scene, scan

# A camera_info of ROS; its first coefficient of distortion is to be filled in.
CAMERA_INFO = """
image_width: 8
image_height: 6
camera_name: color
camera_matrix: {rows: 3, cols: 3, data: [7.0, 0.0, 3.5, 0.0, 7.5, 2.5, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [DISTORTION, 0.0, 0.0, 0.0, 0.0]}
"""


def listed(root: Path, entry: str) -> tuple[dict[str, Scene], list[str], list[str]]:
    """Scenes of an entry by their ids, its notes, and the reasons of what was refused."""
    (root / "data.yaml").write_text(f"datasets:\n  - {{name: mine, root: {root}, {entry}}}\n")
    (dataset,) = scan(root / "data.yaml", "auto")
    found = list(dataset.list_scenes())
    scenes = {item.scene_id: item for item in found if isinstance(item, Scene)}
    notes = [item.text for item in found if isinstance(item, Note)]
    return scenes, notes, [item.reason for item in found if isinstance(item, Refused)]


def depth_of(frames: tuple[Frame, ...]) -> dict[str, str | None]:
    return {frame.name: frame.depth and frame.depth.path.name for frame in frames}
