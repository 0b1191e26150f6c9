"""Pi3 (arXiv:2507.13347): local points and poses of views, none of which is a reference."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, relu

from distill3r_core.nn.block import Block
from distill3r_core.nn.dino import PATCH_SIZE, build_trunk
from distill3r_core.nn.rotary import Rotation, grid_positions, rotation_at
from distill3r_core.prediction import StepCallback, ignore_steps

ENCODER_REGISTERS = 4
REGISTERS = 5  # learned tokens before the patches of every view, the same for all views


@dataclass(frozen=True)
class Pi3Size:
    """Sizes of the network; the defaults are the published ones.

    Args:
        width: Channels of a token of encoder and decoder.
        head_width: Channels of one attention head, everywhere.
        encoder_depth: Blocks of the DINOv2 encoder.
        depth: Blocks of the decoder; even ones see one view, odd ones all of them.
        branch_width: Channels of the three decoders behind it.
        branch_depth: Blocks of each of these.
        points_width: Channels that the point and confidence heads read.
        camera_width: Channels that the camera head reads.
        grid: Rows of the square table of positions.
    """

    width: int = 1024
    head_width: int = 64
    encoder_depth: int = 24
    depth: int = 36
    branch_width: int = 1024
    branch_depth: int = 5
    points_width: int = 1024
    camera_width: int = 512
    grid: int = 37


@dataclass(frozen=True)
class Pi3Output:
    """What the network says of the views of each scene.

    Args:
        local_points: Points in each camera's own frame, of one unknown scale.
        logits: The logit of each pixel's confidence, which is a probability here.
        world_from_cam: Poses in a frame of the network's own.
    """

    local_points: Float[Tensor, "B N H W 3"]
    logits: Float[Tensor, "B N H W"]
    world_from_cam: Float[Tensor, "B N 4 4"]


class Branch(nn.Module):
    """A few blocks within a view behind the shared decoder.

    Args:
        inputs: Channels of a token of the decoder.
        width: Channels of a token here.
        depth: Blocks.
        outputs: Channels of the result.
        head_width: Channels of one attention head.
    """

    def __init__(
        self, inputs: int, *, width: int, depth: int, outputs: int, head_width: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(Block(width, width // head_width) for _ in range(depth))
        self.out = nn.Linear(width, outputs)

    def forward(self, tokens: Float[Tensor, "n T C"], rotation: Rotation) -> Float[Tensor, "n T D"]:
        """All tokens of every view."""
        tokens = self.embed(tokens)
        for block in self.blocks:
            tokens = block(tokens, rotation)
        return self.out(tokens)


class ResidualLayers(nn.Module):
    """Three linear layers, each followed by a ReLU, around which the input is carried."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        """The input plus what the layers make of it."""
        y = x
        for layer in self.layers:
            y = relu(layer(y))
        return x + y


class PoseHead(nn.Module):
    """From the patch tokens of a view to its pose.

    Args:
        width: Channels of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.ModuleList(ResidualLayers(width) for _ in range(2))
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.translation = nn.Linear(width, 3)
        self.rotation = nn.Linear(width, 9)

    def forward(self, tokens: Float[Tensor, "n P D"]) -> Float[Tensor, "n 4 4"]:
        """`world_from_cam` of every view."""
        for part in self.residual:
            tokens = part(tokens)
        x = relu(self.second(relu(self.first(tokens.mean(1)))))
        pose = torch.eye(4, dtype=x.dtype, device=x.device).repeat(len(x), 1, 1)
        pose[:, :3, :3] = nearest_rotation(self.rotation(x).unflatten(-1, (3, 3)))
        pose[:, :3, 3] = self.translation(x)
        return pose


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation nearest to a matrix whose rows have first been brought to length 1."""
    left, _, right = torch.linalg.svd(matrix / matrix.norm(dim=-1, keepdim=True))
    signs = torch.ones_like(matrix[..., 0])
    signs[..., 2] = torch.linalg.det(left @ right)
    return left @ (signs[..., None] * right)


class Pi3(nn.Module):
    """The network in float32; encoder, decoder and branches may run under autocast.

    Args:
        size: Sizes of the network.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, size: Pi3Size | None = None) -> None:
        super().__init__()
        self.size = size = size or Pi3Size()
        heads = size.width // size.head_width
        self.encoder = build_trunk(
            width=size.width,
            depth=size.encoder_depth,
            heads=heads,
            grid=size.grid,
            registers=ENCODER_REGISTERS,
        )
        self.register_token = nn.Parameter(torch.zeros(1, 1, REGISTERS, size.width))
        self.decoder = nn.ModuleList(
            Block(size.width, heads, layer_scale=1.0, qk_norm=1e-5) for _ in range(size.depth)
        )

        def branch(outputs: int) -> Branch:
            return Branch(
                2 * size.width,
                width=size.branch_width,
                depth=size.branch_depth,
                outputs=outputs,
                head_width=size.head_width,
            )

        self.point_decoder = branch(size.points_width)
        self.conf_decoder = branch(size.points_width)
        self.camera_decoder = branch(size.camera_width)
        self.point_head = nn.Linear(size.points_width, 3 * PATCH_SIZE**2)
        self.conf_head = nn.Linear(size.points_width, PATCH_SIZE**2)
        self.camera_head = PoseHead(size.camera_width)
        # Part of the weight files, unlike those of other networks.
        self.register_buffer("image_mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("image_std", torch.ones(1, 3, 1, 1))

    def forward(
        self, images: Float[Tensor, "B N 3 H W"], *, on_progress: StepCallback = ignore_steps
    ) -> Pi3Output:
        """Local points and poses of all views.

        Args:
            images: RGB in [0, 1], sides multiples of 14.
            on_progress: Called before the first block and with every block and branch.
        """
        scenes = images.shape[:2]
        grid = (images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE)
        # Patches are counted from 1, other tokens are at 0.
        patches = grid_positions(*grid, device=images.device) + 1
        positions = torch.cat([patches.new_zeros(REGISTERS, 2), patches])
        within = rotation_at(positions, self.size.head_width)
        across = rotation_at(positions.repeat(scenes[1], 1), self.size.head_width)
        tokens = self._decode(images, within, across, on_progress)
        branches = (self.point_decoder, self.conf_decoder, self.camera_decoder)
        found = []
        for done, branch in enumerate(branches):
            on_progress("branches", done, len(branches))
            found.append(branch(tokens, within)[:, REGISTERS:])
        on_progress("branches", len(branches), len(branches))
        point_tokens, conf_tokens, camera_tokens = found
        kind = self.point_head.weight.dtype
        with torch.autocast(images.device.type, enabled=False):
            raw = _to_pixels(self.point_head(point_tokens.to(kind)), grid).movedim(1, -1)
            depth = raw[..., 2:].exp()
            points = torch.cat([raw[..., :2] * depth, depth], dim=-1)
            logits = _to_pixels(self.conf_head(conf_tokens.to(kind)), grid)[:, 0]
            poses = self.camera_head(camera_tokens.to(kind))
        return Pi3Output(*(part.unflatten(0, scenes) for part in (points, logits, poses)))

    def _decode(
        self,
        images: Float[Tensor, "B N 3 H W"],
        within: Rotation,
        across: Rotation,
        on_progress: StepCallback,
    ) -> Float[Tensor, "n T C"]:
        """The outputs of the last two blocks of the decoder, side by side."""
        scenes, views = images.shape[:2]
        normalized = ((images - self.image_mean) / self.image_std).flatten(0, 1)
        patches = self.encoder(normalized, on_progress=on_progress)
        registers = self.register_token[0].expand(len(patches), -1, -1).to(patches.dtype)
        tokens = torch.cat([registers, patches], dim=1)  # (B N, T, D)
        before = tokens
        on_progress("blocks", 0, len(self.decoder))
        for index, block in enumerate(self.decoder):
            before = tokens
            if index % 2:
                mixed = block(tokens.unflatten(0, (scenes, views)).flatten(1, 2), across)
                tokens = mixed.unflatten(1, (views, -1)).flatten(0, 1)
            else:
                tokens = block(tokens, within)
            on_progress("blocks", index + 1, len(self.decoder))
        return torch.cat([before, tokens], dim=-1)


def _to_pixels(numbers: Float[Tensor, "n P C"], grid: tuple[int, int]) -> Float[Tensor, "n _ H W"]:
    """The numbers of every patch, spread over its pixels."""
    return pixel_shuffle(numbers.mT.unflatten(-1, grid), PATCH_SIZE)
