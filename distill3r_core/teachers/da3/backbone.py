"""The backbone of Depth Anything 3: a DINOv2 whose later blocks see all views by turns."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill3r_core.nn.dino import PATCH_SIZE, build_trunk
from distill3r_core.nn.rotary import Rotation, grid_positions, rotation_at
from distill3r_core.prediction import StepCallback, ignore_steps


@dataclass(frozen=True)
class DA3Size:
    """What distinguishes the sizes of the network.

    Args:
        width: Channels of a token.
        depth: Blocks of the backbone.
        heads: Attention heads of the backbone.
        features: Channels of the merged maps of the head.
        layer_widths: Channels of the head's four taps after their 1x1 convolutions.
        alternate_from: First block with camera tokens, normalized queries and rotary positions;
            from here on every odd block sees all views.
        taps: Blocks whose tokens the head reads.
        grid: Rows of the square table of positions.
    """

    width: int
    depth: int
    heads: int
    features: int
    layer_widths: tuple[int, int, int, int]
    alternate_from: int
    taps: tuple[int, int, int, int]
    grid: int = 37


@dataclass(frozen=True)
class DA3Tokens:
    """What the backbone gives to the heads.

    Args:
        taps: Patch tokens of the four taps: the last within-view block beside the normalized
            global block.
        camera: Token 0 of the last tap, not normalized.
        reference: The reference view of every scene; 0 where cameras were given.
    """

    taps: list[Float[Tensor, "B S P C"]]
    camera: Float[Tensor, "B S C"]
    reference: Int[Tensor, "B"]


class DA3Backbone(nn.Module):
    """Tokens of all views of a scene.

    Args:
        size: Sizes of the network.
    """

    def __init__(self, size: DA3Size) -> None:
        super().__init__()
        self.size = size
        self.trunk = build_trunk(
            width=size.width,
            depth=size.depth,
            heads=size.heads,
            grid=size.grid,
            resizing="scale",
            norm_eps=1e-5,
            qk_norm_from=size.alternate_from,
        )
        self.camera_token = nn.Parameter(torch.zeros(1, 2, size.width))

    def forward(
        self,
        images: Float[Tensor, "B S 3 H W"],
        *,
        camera_tokens: Float[Tensor, "B S D"] | None = None,
        strategy: str = "first",
        on_progress: StepCallback = ignore_steps,
    ) -> DA3Tokens:
        """Run every view, and from `alternate_from` on all views of a scene together.

        Args:
            images: Normalized by ImageNet's mean and deviation; sides multiples of 14.
            camera_tokens: Tokens of given cameras; None: the learned ones of a reference view
                and of the others.
            strategy: How the reference view is chosen, see `choose_reference`.
            on_progress: Called before the first block and with every block.
        """
        scenes, views = images.shape[:2]
        tokens = self.trunk.embed(images.flatten(0, 1)).unflatten(0, (scenes, views))
        within, across = self._rotations(images)
        reference = torch.zeros(scenes, dtype=torch.long, device=images.device)
        taps: list[Tensor] = []
        local = tokens
        on_progress("blocks", 0, self.size.depth)
        for index, block in enumerate(self.trunk.blocks):
            if index == self.size.alternate_from - 1 and camera_tokens is None:
                reference = choose_reference(tokens[:, :, 0], strategy)
            if index == self.size.alternate_from:
                if camera_tokens is None:  # one for the reference view, another one for all others
                    other = torch.arange(views, device=images.device) != reference[:, None]
                    camera_tokens = self.camera_token[0][other.long()]  # (B, S, D)
                tokens = torch.cat([camera_tokens[:, :, None].to(tokens), tokens[:, :, 1:]], dim=2)
            if index >= self.size.alternate_from and index % 2:
                mixed = block(tokens.flatten(1, 2), across)  # (B, S T, D)
                tokens = mixed.unflatten(1, (views, -1))
            else:
                rotation = within if index >= self.size.alternate_from else None
                tokens = block(tokens.flatten(0, 1), rotation).unflatten(0, (scenes, views))
                local = tokens
            if index in self.size.taps:
                normed = self.trunk.norm(tokens[:, :, 1:])
                taps.append(torch.cat([local[:, :, 1:], normed], dim=-1))
            on_progress("blocks", index + 1, self.size.depth)
        camera = torch.cat([local[:, :, 0], tokens[:, :, 0]], dim=-1)
        return DA3Tokens(taps, camera, reference)

    def _rotations(self, images: Float[Tensor, "B S 3 H W"]) -> tuple[Rotation, Rotation]:
        """Rotary positions within a view (patches counted from 1) and across all of them.

        In a global block every patch of every view is at (1, 1): patches are not rotated against
        each other, but against the camera tokens, which are at (0, 0).
        """
        rows, columns = (side // PATCH_SIZE for side in images.shape[-2:])
        grid = grid_positions(rows, columns, device=images.device) + 1
        camera = grid.new_zeros(1, 2)
        width = self.size.width // self.size.heads
        within = rotation_at(torch.cat([camera, grid]), width)
        everywhere = torch.cat([camera, torch.ones_like(grid)]).repeat(images.shape[1], 1)
        return within, rotation_at(everywhere, width)


def choose_reference(tokens: Float[Tensor, "B S D"], strategy: str) -> Int[Tensor, "B"]:
    """The reference view of every scene.

    Args:
        tokens: Class token of every view.
        strategy: "first", "middle", or "saddle_balanced": the view whose similarity to the
            others, norm and variance are nearest to the middle of their ranges. With fewer than
            three views the first is taken.
    """
    scenes, views = tokens.shape[:2]
    if views >= 3 and strategy == "saddle_balanced":
        return balance_scores(tokens).argmin(dim=1)
    middle = views // 2 if views >= 3 and strategy == "middle" else 0
    return torch.full((scenes,), middle, device=tokens.device)


def balance_scores(tokens: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
    """How far each view is from the middle of the ranges, over three properties of its token.

    In float32 at least: the choice is discrete, and bfloat16 changes it.
    """
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    with torch.autocast(tokens.device.type, enabled=False):
        norms = tokens.norm(dim=-1)
        units = tokens / norms[..., None]
        similarity = (units @ units.mT).sum(-1).sub(1) / (tokens.shape[1] - 1)
    score = torch.zeros_like(norms)
    for series in (similarity, norms, units.var(dim=-1)):
        lowest, highest = series.amin(1, keepdim=True), series.amax(1, keepdim=True)
        score = score + ((series - lowest) / (highest - lowest + 1e-8) - 0.5).abs()
    return score
