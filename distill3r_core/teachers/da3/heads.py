"""What Depth Anything 3 makes of its tokens: depth, rays and cameras; and tokens of cameras."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from distill3r_core.nn.block import Block
from distill3r_core.nn.dpt import pointwise
from distill3r_core.nn.plane_dpt import PlaneTail, Reassemble, RefinementChain, add_plane_codes
from distill3r_core.teachers.da3.backbone import DA3Size

RAY_CHANNELS = 7  # direction, origin, confidence
POSE_NUMBERS = 9  # translation, quaternion, two fields of view


class DualHead(nn.Module):
    """Depth at the size of the image and rays at 8 numbers a patch, from one pyramid of taps.

    Args:
        size: Sizes of the network.
        patch_size: Pixels along a patch.
    """

    def __init__(self, size: DA3Size, *, patch_size: int) -> None:
        super().__init__()
        features = size.features
        self.patch_size = patch_size
        self.pyramid = Reassemble(2 * size.width, features=features, layer_widths=size.layer_widths)
        self.depth_chain = RefinementChain(features)
        self.depth_tail = PlaneTail(features, 2)
        self.ray_chain = RefinementChain(features)
        self.ray_tail = RayTail(features)

    def forward(
        self, taps: Sequence[Float[Tensor, "n P C"]], grid: tuple[int, int], *, rays: bool
    ) -> tuple[Float[Tensor, "n 2 H W"], Float[Tensor, "n 7 _ _"] | None]:
        """The raw maps, before any activation: depth and its confidence; rays and theirs.

        Args:
            taps: Tokens of four layers, patches in row-major order.
            grid: Rows and columns of patches.
            rays: Compute the rays too.
        """
        rows, columns = (self.patch_size * side for side in grid)
        aspect = columns / rows
        maps = self.pyramid(taps, grid, aspect)
        depth = self.depth_tail(self.depth_chain(maps), (rows, columns))
        return depth, self.ray_tail(self.ray_chain(maps), aspect) if rays else None


class RayTail(nn.Module):
    """Convolutions from the merged map to rays, without any upsampling.

    Args:
        features: Channels of the merged map.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        half, hidden = features // 2, 32
        widths = (features, half, features, half, features, half)
        self.neck = nn.Sequential(
            *(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        )
        self.refine = nn.Conv2d(half, hidden, 3, padding=1)
        self.norm = nn.LayerNorm(hidden, eps=1e-5)
        self.out = nn.Conv2d(hidden, RAY_CHANNELS, 1)

    def forward(self, merged: Float[Tensor, "n F h w"], aspect: float) -> Float[Tensor, "n 7 h w"]:
        """The raw rays at the size of the merged map."""
        x = self.refine(add_plane_codes(self.neck(merged), aspect))
        x = relu(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return pointwise(x, self.out)


class CameraDecoder(nn.Module):
    """From the camera token of a view to its camera.

    Args:
        width: Channels of the token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.translation = nn.Linear(width, 3)
        self.quaternion = nn.Linear(width, 4)
        self.view_field = nn.Linear(width, 2)

    def forward(self, token: Float[Tensor, "B S C"]) -> Float[Tensor, "B S 9"]:
        """Camera center, quaternion x y z w of any length, two fields of view, height first."""
        x = relu(self.second(relu(self.first(token))))
        return torch.cat(
            [self.translation(x), self.quaternion(x), relu(self.view_field(x))], dim=-1
        )


class CameraEncoder(nn.Module):
    """From given cameras to the tokens that stand for them.

    Args:
        width: Channels of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(POSE_NUMBERS, width // 2)
        self.embed = nn.Linear(width // 2, width)
        self.token_norm = nn.LayerNorm(width, eps=1e-5)
        self.blocks = nn.ModuleList(Block(width, 16, eps=1e-5, layer_scale=1.0) for _ in range(4))
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, pose: Float[Tensor, "B S 9"]) -> Float[Tensor, "B S D"]:
        """Tokens that have seen the cameras of all views."""
        tokens = self.token_norm(self.embed(gelu(self.widen(pose))))
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)
