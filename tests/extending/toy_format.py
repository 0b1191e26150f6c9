"""A toy export format: the cloud as lines `X Y Z R G B` of text."""

import numpy as np

from distill3r_core.extend import FORMATS, ExportFormat


def write(export):
    _, cleaned = export.world
    cloud = cleaned.cloud
    path = export.folder / "scene.xyz"
    np.savetxt(path, np.hstack([cloud.points, cloud.colors]), fmt="%.6g")
    return [path]


FORMATS.add("xyz", ExportFormat(write, needs=frozenset(("poses", "cloud"))))
