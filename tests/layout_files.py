"""Small files of data sets, and what the layout that recognizes them lists."""

import numpy as np

from distill3r_core.data.layouts import detect_layout, scan
from distill3r_core.data.layouts.records import Scene

QUARTER = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])  # about z


def made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write(path, text):
    made(path).write_text(text)


def listed(root, layout):
    """Scenes by id, and the rest of what the layout that was detected says."""
    assert detect_layout(root)[0].name == layout
    [dataset] = scan(root)
    found = list(dataset.list_scenes())
    scenes = {item.scene_id: item for item in found if isinstance(item, Scene)}
    return scenes, [item for item in found if not isinstance(item, Scene)]


def names(scene):
    return [frame.name for frame in scene.frames]


def matrix_text(matrix):
    return "\n".join(" ".join(f"{value:g}" for value in row) for row in matrix) + "\n"
