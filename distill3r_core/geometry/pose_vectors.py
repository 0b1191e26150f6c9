"""Cameras as nine numbers: a translation, a quaternion and two fields of view.

VGGT (arXiv:2503.11651) describes `cam_from_world` by them, Depth Anything 3 (arXiv:2511.10647)
`world_from_cam`; the numbers themselves are the same. Quaternions are x, y, z, w.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_FLATTEST = 1e-6  # smallest tangent of half a field of view


def rotation_from_quaternion(
    quaternion: Float[Tensor, "*batch 4"],
) -> Float[Tensor, "*batch 3 3"]:
    """The rotation of a quaternion x, y, z, w of any length but 0."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_from_rotation(
    rotation: Float[Tensor, "*batch 3 3"],
) -> Float[Tensor, "*batch 4"]:
    """The unit quaternion x, y, z, w of a rotation, with w >= 0."""
    flat = rotation.flatten(-2).unbind(-1)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = flat
    # 4 q q^T, each row of which is the quaternion times one of its entries.
    outer = torch.stack(
        [
            torch.stack([1 + m00 - m11 - m22, m01 + m10, m02 + m20, m21 - m12], dim=-1),
            torch.stack([m01 + m10, 1 - m00 + m11 - m22, m12 + m21, m02 - m20], dim=-1),
            torch.stack([m02 + m20, m12 + m21, 1 - m00 - m11 + m22, m10 - m01], dim=-1),
            torch.stack([m21 - m12, m02 - m20, m10 - m01, 1 + m00 + m11 + m22], dim=-1),
        ],
        dim=-2,
    )
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)  # the entry that loses no digits
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    quaternion = row / row.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def split_pose_vector(
    vector: Float[Tensor, "*batch 9"], size: tuple[int, int]
) -> tuple[Float[Tensor, "*batch 3 4"], Float[Tensor, "*batch 3 3"]]:
    """The transform `[R | t]` and K of a pose vector.

    Args:
        vector: Translation, quaternion, fields of view along height and width in radians.
        size: Rows and columns of the image; its middle is the principal point, centers at +0.5.
    """
    rotation = rotation_from_quaternion(vector[..., 3:7])
    transform = torch.cat([rotation, vector[..., :3, None]], dim=-1)
    halves = vector.new_tensor(size) / 2
    focal = halves / (vector[..., 7:] / 2).tan().clamp(min=_FLATTEST)  # fy, fx
    intrinsics = torch.zeros(*vector.shape[:-1], 3, 3, dtype=vector.dtype, device=vector.device)
    intrinsics[..., 0, 0], intrinsics[..., 1, 1] = focal[..., 1], focal[..., 0]
    intrinsics[..., 0, 2], intrinsics[..., 1, 2] = halves[1], halves[0]
    intrinsics[..., 2, 2] = 1
    return transform, intrinsics


def join_pose_vector(
    transform: Float[Tensor, "*batch _ 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    size: tuple[int, int],
) -> Float[Tensor, "*batch 9"]:
    """The pose vector of `[R | t]` (of three or four rows) and K; its principal point is lost.

    Args:
        intrinsics: In pixels of the image.
        size: Rows and columns of the image.
    """
    height, width = size
    fields = [
        2 * torch.atan(side / 2 / intrinsics[..., axis, axis])
        for side, axis in ((height, 1), (width, 0))
    ]
    return torch.cat(
        [
            transform[..., :3, 3],
            quaternion_from_rotation(transform[..., :3, :3]),
            torch.stack(fields, dim=-1),
        ],
        dim=-1,
    )
