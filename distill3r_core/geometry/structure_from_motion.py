"""Poses of images by COLMAP's structure from motion. Needs pycolmap, the extra `colmap`."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from distill3r_core.geometry import pnp


@dataclass(frozen=True)
class SolvedImage:
    """An image that was placed.

    Args:
        pixels: Where its points are seen (u, v), centers at +0.5.
        depth: Depth of these points, in the unit of the poses.
    """

    world_from_cam: Float[np.ndarray, "4 4"]
    pixels: Float[np.ndarray, "M 2"]
    depth: Float[np.ndarray, " M"]


def solve_images(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], intrinsics: Sequence[Float[np.ndarray, "3 3"]]
) -> dict[int, SolvedImage]:
    """Place images in one world of unknown scale: SIFT, exhaustive matching, incremental mapping.

    Args:
        images: RGB, of one size.
        intrinsics: K of each, pixel centers at +0.5; the median of all is used and kept.

    Returns:
        The images of the largest model, by index; {} where nothing could be placed.

    Raises:
        ExtraMissingError: pycolmap is not installed.
    """
    pnp.prepare()
    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
    pycolmap.set_random_seed(0)
    k = np.median(np.stack(list(intrinsics)), axis=0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(root / "images" / f"{index:06d}.png")
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "PINHOLE"
        reader.camera_params = f"{k[0, 0]},{k[1, 1]},{k[0, 2]},{k[1, 2]}"
        database = root / "database.db"
        pycolmap.extract_features(
            database,
            root / "images",
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            device=pycolmap.Device.cpu,
        )
        pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
        options = pycolmap.IncrementalPipelineOptions()
        options.ba_refine_focal_length = options.ba_refine_principal_point = False
        options.ba_refine_extra_params = False
        options.multiple_models = False
        (root / "models").mkdir()
        models = pycolmap.incremental_mapping(
            database, root / "images", root / "models", options=options
        )
    if not models:
        return {}
    model = max(models.values(), key=lambda one: one.num_reg_images())
    found = {}
    for image in model.images.values():
        if not image.has_pose:
            continue
        cam_from_world = np.eye(4)
        cam_from_world[:3] = image.cam_from_world().matrix()
        seen = [point for point in image.points2D if point.has_point3D()]
        points = np.array([model.points3D[point.point3D_id].xyz for point in seen]).reshape(-1, 3)
        found[int(Path(image.name).stem)] = SolvedImage(
            np.linalg.inv(cam_from_world),
            np.array([point.xy for point in seen]).reshape(-1, 2),
            points @ cam_from_world[2, :3] + cam_from_world[2, 3],
        )
    return found
