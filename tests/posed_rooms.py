"""Rendered rooms on disk in the layout `rgbd`, and their data with one convention changed."""

import functools
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes.paths import arc, pinhole
from distill3r_core.scenes.render import render_depth, render_scene
from distill3r_core.scenes.scene import build_scene

SIZE = (70, 98)


@functools.cache
def room_depth(
    seed: int, views: int, degrees: float
) -> tuple[Float[Tensor, "N H W"], Float[Tensor, "N 4 4"]]:
    """Depth and poses of a room, in meters."""
    scene, K = build_scene(seed), pinhole(SIZE)
    poses = arc(scene, views, seed=seed, degrees=degrees)
    return torch.stack([render_depth(scene, pose, K, SIZE) for pose in poses]), poses


def write_room(folder: Path, seed: int = 0, *, views: int = 12, degrees: float = 69.0) -> Path:
    """A room whose data are right; the images are gray ramps."""
    depth, poses = room_depth(seed, views, degrees)
    ramp = torch.linspace(0, 0.5, SIZE[1]).expand(3, *SIZE)
    images = torch.stack([ramp + 0.5 * view / views for view in range(views)])
    write_rgbd_scene(folder, images, depth, poses, pinhole(SIZE))
    return folder


def write_rendered_room(
    folder: Path, seed: int, *, views: int, size: tuple[int, int]
) -> list[Path]:
    """A room as `render_scene` renders it; gives its images."""
    scene = render_scene(seed, views, size)
    return write_rgbd_scene(
        folder, scene.images, scene.depth, scene.world_from_cam, scene.intrinsics[0]
    )


def change_depth_unit(folder: Path, units_in_meter: float) -> None:
    for path in sorted((folder / "depth").iterdir()):
        stored = np.asarray(Image.open(path)).astype(np.float64)
        changed = np.rint(stored * units_in_meter / 1000).astype(np.uint16)
        Image.fromarray(changed).save(path)


def change_poses(folder: Path, *, invert: bool = False, opengl: bool = False) -> None:
    """Poses as somebody with other conventions stores them."""
    for path in sorted((folder / "pose").iterdir()):
        pose = np.loadtxt(path)
        if opengl:
            pose = pose @ np.diag([1.0, -1, -1, 1])
        np.savetxt(path, np.linalg.inv(pose) if invert else pose)


def change_intrinsics_size(folder: Path, size: tuple[int, int]) -> None:
    """K of images of another size, rows and columns."""
    path = folder / "intrinsics.txt"
    scale = np.diag([size[1] / SIZE[1], size[0] / SIZE[0], 1])
    np.savetxt(path, scale @ np.loadtxt(path))
