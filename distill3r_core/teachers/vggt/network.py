"""VGGT (arXiv:2503.11651): cameras, depth and points of any number of views in one pass."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, relu, silu

from distill3r_core.nn.block import Block
from distill3r_core.nn.dino import PATCH_SIZE, build_trunk, normalize
from distill3r_core.nn.plane_dpt import PlaneHead
from distill3r_core.nn.rotary import grid_positions, rotation_at
from distill3r_core.prediction import StepCallback, ignore_steps

REGISTERS = 4
SPECIAL = 1 + REGISTERS  # tokens before the patches: camera, registers
ROUNDS = 4  # of the camera head
HEAD_CHUNK = 8  # views that go through a head at once
POSE_NUMBERS = 9


@dataclass(frozen=True)
class VGGTSize:
    """Sizes of the network; the defaults are those of VGGT-1B.

    Args:
        width: Channels of a token.
        heads: Attention heads of every transformer in it.
        encoder_depth: Blocks of the DINOv2 encoder.
        depth: Pairs of a frame block and a global block.
        camera_depth: Blocks of the camera head.
        features: Channels of the merged maps of the DPT heads.
        layer_widths: Channels of the heads' four taps after their 1x1 convolutions.
        taps: Pairs of blocks whose tokens the DPT heads read.
        grid: Rows of the square table of positions.
    """

    width: int = 1024
    heads: int = 16
    encoder_depth: int = 24
    depth: int = 24
    camera_depth: int = 4
    features: int = 256
    layer_widths: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    taps: tuple[int, int, int, int] = (4, 11, 17, 23)
    grid: int = 37


@dataclass(frozen=True)
class VGGTOutput:
    """What the network says of the views of each scene.

    Args:
        poses: Pose vectors of `cam_from_world`, see `geometry.pose_vectors`. The world is about
            the first view's camera.
        depth: z in each camera's frame, of the scale of `poses`.
        depth_confidence: `1 + exp(logit)`, in [1, inf).
        points: The point head's map, in the world frame; None where it was not run.
        points_confidence: `1 + exp(logit)`, in [1, inf); None where it was not run.
    """

    poses: Float[Tensor, "B S 9"]
    depth: Float[Tensor, "B S H W"]
    depth_confidence: Float[Tensor, "B S H W"]
    points: Float[Tensor, "B S H W 3"] | None = None
    points_confidence: Float[Tensor, "B S H W"] | None = None


class Aggregator(nn.Module):
    """Tokens of all views: an encoder, then blocks within a view and over all views by turns.

    Args:
        size: Sizes of the network.
    """

    def __init__(self, size: VGGTSize) -> None:
        super().__init__()
        self.size = size
        self.encoder = build_trunk(
            width=size.width,
            depth=size.encoder_depth,
            heads=size.heads,
            grid=size.grid,
            registers=REGISTERS,
        )
        # Entry 0 marks the first view, entry 1 all others: the only thing that does.
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, size.width))
        self.register_token = nn.Parameter(torch.zeros(1, 2, REGISTERS, size.width))
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(
                Block(size.width, size.heads, eps=1e-5, layer_scale=1.0, qk_norm=1e-5)
                for _ in range(size.depth)
            )
            for _ in range(2)
        )

    def forward(
        self, images: Float[Tensor, "B S 3 H W"], *, on_progress: StepCallback = ignore_steps
    ) -> list[Float[Tensor, "B S T C"]]:
        """All tokens of the taps: those of the frame block beside those of the global block.

        Args:
            images: Normalized by ImageNet's mean and deviation; sides multiples of 14.
            on_progress: Called before the first block and with every block.
        """
        scenes, views = images.shape[:2]
        patches = self.encoder(images.flatten(0, 1), on_progress=on_progress)
        patches = patches.unflatten(0, (scenes, views))
        special = torch.cat([self.camera_token, self.register_token], dim=2)[0]  # (2, 5, C)
        other = (torch.arange(views, device=images.device) > 0).long()
        marks = special[other].expand(scenes, -1, -1, -1).to(patches.dtype)  # (B, S, 5, C)
        tokens = torch.cat([marks, patches], dim=2)
        # Patches are counted from 1, other tokens are at 0.
        rows, columns = (side // PATCH_SIZE for side in images.shape[-2:])
        grid = grid_positions(rows, columns, device=images.device) + 1
        positions = torch.cat([grid.new_zeros(SPECIAL, 2), grid])
        head_width = self.size.width // self.size.heads
        within = rotation_at(positions, head_width)
        across = rotation_at(positions.repeat(views, 1), head_width)
        taps = []
        on_progress("blocks", 0, self.size.depth)
        for index, (frame, everywhere) in enumerate(
            zip(self.frame_blocks, self.global_blocks, strict=True)
        ):
            local = frame(tokens.flatten(0, 1), within).unflatten(0, (scenes, views))
            tokens = everywhere(local.flatten(1, 2), across).unflatten(1, (views, -1))
            if index in self.size.taps:
                taps.append(torch.cat([local, tokens], dim=-1))
            on_progress("blocks", index + 1, self.size.depth)
        return taps


class CameraHead(nn.Module):
    """Refine the cameras of all views in a few rounds, from their camera tokens.

    Args:
        width: Channels of a token.
        depth: Blocks of a round.
        heads: Attention heads.
    """

    def __init__(self, width: int, *, depth: int, heads: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(width, eps=1e-5)
        self.empty_pose = nn.Parameter(torch.zeros(1, 1, POSE_NUMBERS))
        self.embed_pose = nn.Linear(POSE_NUMBERS, width)
        self.modulation = nn.Linear(width, 3 * width)
        self.blocks = nn.ModuleList(
            Block(width, heads, eps=1e-5, layer_scale=1.0) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.narrow = nn.Linear(width, width // 2)
        self.out = nn.Linear(width // 2, POSE_NUMBERS)

    def forward(self, tokens: Float[Tensor, "B S C"]) -> list[Float[Tensor, "B S 9"]]:
        """Pose vectors after every round; the last one counts.

        Args:
            tokens: Camera token of every view.
        """
        tokens = self.token_norm(tokens)
        plain = layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
        pose = tokens.new_zeros(*tokens.shape[:2], POSE_NUMBERS)
        given: Tensor = self.empty_pose.expand_as(pose)
        rounds = []
        for _ in range(ROUNDS):
            shift, scale, gate = self.modulation(silu(self.embed_pose(given))).chunk(3, dim=-1)
            x = gate * (plain * (1 + scale) + shift) + tokens
            for block in self.blocks:
                x = block(x)
            given = pose = pose + self.out(gelu(self.narrow(self.norm(x))))
            rounds.append(torch.cat([pose[..., :7], relu(pose[..., 7:])], dim=-1))
        return rounds


class VGGT(nn.Module):
    """The network in float32; its aggregator may run under autocast.

    Args:
        size: Sizes of the network.
        points: Whether it has the point head.
    """

    def __init__(self, size: VGGTSize | None = None, *, points: bool = True) -> None:
        super().__init__()
        self.size = size = size or VGGTSize()
        self.aggregator = Aggregator(size)
        self.camera_head = CameraHead(2 * size.width, depth=size.camera_depth, heads=size.heads)

        def head(channels: int) -> PlaneHead:
            return PlaneHead(
                2 * size.width,
                channels,
                patch_size=PATCH_SIZE,
                features=size.features,
                layer_widths=size.layer_widths,
                rectified=True,
            )

        self.depth_head = head(2)
        self.point_head = head(4) if points else None

    def forward(
        self,
        images: Float[Tensor, "B S 3 H W"],
        *,
        points: bool = False,
        head_chunk: int = HEAD_CHUNK,
        on_progress: StepCallback = ignore_steps,
    ) -> VGGTOutput:
        """Cameras and depth of all views.

        Args:
            images: RGB in [0, 1], sides multiples of 14.
            points: Run the point head too.
            head_chunk: Views that go through a head at once.
            on_progress: Called with every block and every chunk of a head.
        """
        taps = self.aggregator(normalize(images), on_progress=on_progress)
        kind = self.camera_head.out.weight.dtype
        grid = (images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE)
        scenes = images.shape[:2]
        with torch.autocast(images.device.type, enabled=False):
            poses = self.camera_head(taps[-1][:, :, 0].to(kind))[-1]
            rows = [tap[:, :, SPECIAL:].flatten(0, 1) for tap in taps]
            raw = _run(self.depth_head, rows, grid, head_chunk, on_progress, phase="heads")
            raw = raw.unflatten(0, scenes)
            found = confidence = None
            if points:
                assert self.point_head is not None, "the point head was left out"
                other = _run(
                    self.point_head, rows, grid, head_chunk, on_progress, phase="point head"
                ).unflatten(0, scenes)
                directions = other[:, :, :3].movedim(2, -1)
                found = directions.sign() * directions.abs().expm1()
                confidence = 1 + other[:, :, 3].exp()
        return VGGTOutput(poses, raw[:, :, 0].exp(), 1 + raw[:, :, 1].exp(), found, confidence)


def _run(
    head: PlaneHead,
    taps: list[Float[Tensor, "n P C"]],
    grid: tuple[int, int],
    chunk: int,
    on_progress: StepCallback,
    *,
    phase: str,
) -> Float[Tensor, "n _ H W"]:
    """A head over many views, a few at a time: views are independent here."""
    kind, views = head.tail.out.weight.dtype, len(taps[0])
    done: list[Tensor] = []
    for start in range(0, views, chunk):
        on_progress(phase, start, views)
        done.append(head([tap[start : start + chunk].to(kind) for tap in taps], grid))
    on_progress(phase, views, views)
    return torch.cat(done)
