"""A toy codec, depth as NumPy arrays, and a layout with it: `NAME.png` beside `NAME.npy`."""

import numpy as np

from distill3r_core.extend import (
    DEPTH_CODECS,
    LAYOUTS,
    Dataset,
    DepthFile,
    Frame,
    Layout,
    Rig,
    Scene,
)

CAMERA = np.array([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]])


def detect(root):
    return "it has arrays of depth" if any(root.glob("*.npy")) else None


def scan(root, skip):
    def list_scenes():
        frames = [
            Frame(
                name=image.stem,
                image=image,
                depth=DepthFile(image.with_suffix(".npy"), codec="numpy", scale=1.0),
                rig=Rig(color=CAMERA),
                unit="m",
            )
            for image in sorted(root.glob("*.png"))
        ]
        yield Scene(scene_id="scene", folder=root, frames=tuple(frames), order="name")

    return [Dataset(name=root.name, root=root, list_scenes=list_scenes)]


DEPTH_CODECS.add("numpy", np.load)
LAYOUTS.add(
    "arrays",
    Layout(name="arrays", summary="images and arrays of depth", detect=detect, scan=scan),
)
