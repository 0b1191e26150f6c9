"""The plain RGB-D layout on disk: `rgb/`, `depth/`, `pose/` and `intrinsics.txt`."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from distill3r_core.files import replacing, write_text
from distill3r_core.io.images.depth import write_depth

DIGITS = 6  # of a frame's number in its file names


def write_rgbd_scene(
    folder: Path,
    images: Float[Tensor, "N 3 H W"],
    depth: Float[Tensor, "N H W"],
    world_from_cam: Float[Tensor, "N 4 4"],
    intrinsics: Float[Tensor, "3 3"],
) -> list[Path]:
    """Write views of one scene.

    Args:
        folder: Folder of the scene; `manifest` takes the folder above it.
        images: RGB in [0, 1].
        depth: z in each camera's frame, meters, 0 where unknown; rounded to millimeters.
        world_from_cam: OpenCV axes, meters.
        intrinsics: Pixels, centers at +0.5; the same for every view.

    Returns:
        The folder's images.
    """
    paths = []
    for number, (image, meters, pose) in enumerate(zip(images, depth, world_from_cam, strict=True)):
        name = f"{number:0{DIGITS}d}"
        pixels = (image.movedim(0, -1) * 255).round().byte().cpu().numpy()
        path = folder / "rgb" / f"{name}.png"
        with replacing(path) as beside:
            Image.fromarray(pixels).save(beside)
        write_depth(folder / "depth" / f"{name}.png", meters.cpu().numpy(), unit="m")
        write_text(folder / "pose" / f"{name}.txt", _matrix(pose))
        paths.append(path)
    write_text(folder / "intrinsics.txt", _matrix(intrinsics))
    return paths


def _matrix(values: Float[Tensor, "rows columns"]) -> str:
    # Nine significant digits are enough to get the same float32 back.
    rows = np.asarray(values.cpu(), dtype=np.float64)
    return "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows)
