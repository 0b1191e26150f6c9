"""Depth that is predicted without reading the image: what baselines are made of.

A plane at a constant depth; the mean depth map of the training frames, which knows where a scene
is usually near; the map of the training frame nearest to the camera, which knows the place.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill3r_core.geometry.cameras import unproject

NEAR_METERS = 0.25  # a camera at this distance differs as much as one
NEAR_DEGREES = 15.0  # that is rotated by this angle


def constant_depth(
    intrinsics: Float[Tensor, "N 3 3"], size: tuple[int, int]
) -> Float[Tensor, "N H W 3"]:
    """A plane in front of every camera, at depth 1.

    Args:
        intrinsics: In pixels of maps of `size`.
    """
    return same_depth(torch.ones(size, dtype=intrinsics.dtype), intrinsics)


def same_depth(
    depth: Float[Tensor, "H W"], intrinsics: Float[Tensor, "N 3 3"]
) -> Float[Tensor, "N H W 3"]:
    """One depth map in front of every camera."""
    return unproject(depth.to(intrinsics.dtype).expand(len(intrinsics), *depth.shape), intrinsics)


def mean_depth(
    depth: Float[Tensor, "M H W"], valid_mask: Bool[Tensor, "M H W"]
) -> Float[Tensor, "H W"]:
    """The mean depth of every pixel over the frames in which it is valid.

    A pixel that is valid in no frame gets the mean of all.

    Args:
        depth: Depth maps of training frames, in one unit; anything outside the mask.
        valid_mask: At least one pixel.
    """
    count = valid_mask.sum(0)
    total = torch.where(valid_mask, depth, 0.0).double().sum(0)
    mean = torch.where(count > 0, total / count.clamp(min=1), total.sum() / count.sum())
    return mean.to(depth.dtype)


def fill_holes(
    depth: Float[Tensor, "*batch H W"],
    valid_mask: Bool[Tensor, "*batch H W"],
    mean: Float[Tensor, "H W"],
) -> Float[Tensor, "*batch H W"]:
    """Depth maps whose holes take the mean map's depth."""
    return torch.where(valid_mask, depth, mean)


def nearest_frames(
    cameras: Float[Tensor, "N 4 4"], training: Float[Tensor, "M 4 4"]
) -> Int[Tensor, " N"]:
    """The training frame nearest to each camera: distance / 0.25 m + angle / 15 degrees.

    Args:
        cameras: `world_from_cam`, translations in meters.
        training: The same, in the same world; at least one.
    """
    return frame_distances(cameras, training).argmin(dim=1)


def frame_distances(
    cameras: Float[Tensor, "N 4 4"], training: Float[Tensor, "M 4 4"]
) -> Float[Tensor, "N M"]:
    """Difference of two cameras in place and direction, taken together."""
    cameras, training = cameras.double(), training.double()
    distance = torch.cdist(cameras[:, :3, 3], training[:, :3, 3])
    traces = torch.einsum("nij,mij->nm", cameras[:, :3, :3], training[:, :3, :3])
    angle = torch.rad2deg(torch.arccos(((traces - 1) / 2).clamp(-1, 1)))
    return distance / NEAR_METERS + angle / NEAR_DEGREES
