"""Depth Anything 3 (arXiv:2511.10647): depth and cameras of any number of views in one pass."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill3r_core.geometry.pose_vectors import join_pose_vector, split_pose_vector
from distill3r_core.nn.dino import PATCH_SIZE
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.teachers.da3.backbone import DA3Backbone, DA3Size
from distill3r_core.teachers.da3.heads import CameraDecoder, CameraEncoder, DualHead

HEAD_CHUNK = 8  # views that go through the head at once
CPU_HEAD_CHUNK = 2  # maps of more leave the caches between two layers


@dataclass(frozen=True)
class DA3Rays:
    """Rays of all views on a grid of 8 by 8 per patch.

    Args:
        rays: Direction (its third camera component is 1) and origin, in the world frame.
        confidence: `1 + exp(logit)`, in [1, inf).
    """

    rays: Float[Tensor, "B S h w 6"]
    confidence: Float[Tensor, "B S h w"]


@dataclass(frozen=True)
class DA3Output:
    """What the network says of the views of each scene.

    Args:
        depth: z in each camera's frame, of the scale of `poses`.
        confidence: `1 + exp(logit)`, in [1, inf).
        poses: Pose vectors of `world_from_cam`, see `geometry.pose_vectors`.
        reference: The view whose camera is near the world's origin.
        rays: Where they were asked for.
    """

    depth: Float[Tensor, "B S H W"]
    confidence: Float[Tensor, "B S H W"]
    poses: Float[Tensor, "B S 9"]
    reference: Int[Tensor, "B"]
    rays: DA3Rays | None = None

    def cameras(self) -> tuple[Float[Tensor, "B S 3 4"], Float[Tensor, "B S 3 3"]]:
        """`world_from_cam` and K, in pixels of the depth map."""
        height, width = self.depth.shape[-2:]
        return split_pose_vector(self.poses, (height, width))


class DA3(nn.Module):
    """The network in float32; its backbone may run under autocast.

    Args:
        size: What distinguishes small, base and large.
    """

    def __init__(self, size: DA3Size) -> None:
        super().__init__()
        self.size = size
        self.backbone = DA3Backbone(size)
        self.head = DualHead(size, patch_size=PATCH_SIZE)
        self.camera_decoder = CameraDecoder(2 * size.width)
        self.camera_encoder = CameraEncoder(size.width)

    def forward(
        self,
        images: Float[Tensor, "B S 3 H W"],
        *,
        world_from_cam: Float[Tensor, "B S 4 4"] | None = None,
        intrinsics: Float[Tensor, "B S 3 3"] | None = None,
        strategy: str = "first",
        rays: bool = False,
        head_chunk: int | None = None,
        on_progress: StepCallback = ignore_steps,
    ) -> DA3Output:
        """Depth and cameras of all views.

        Args:
            images: Normalized by ImageNet's mean and deviation; sides multiples of 14.
            world_from_cam: Given cameras, of all views or none; together with `intrinsics`.
            intrinsics: K of the given cameras, in pixels of `images`.
            strategy: How the reference view is chosen, see `choose_reference`.
            rays: Compute the ray maps too.
            head_chunk: Views that go through the head at once; None: as the device does best.
            on_progress: Called with every block and every chunk of the head.
        """
        height, width = images.shape[-2:]
        given = None
        if world_from_cam is not None:
            assert intrinsics is not None, "cameras are given with their intrinsics"
            with torch.autocast(images.device.type, enabled=False):
                vectors = join_pose_vector(world_from_cam, intrinsics, (height, width))
                given = self.camera_encoder(vectors)
        tokens = self.backbone(
            images, camera_tokens=given, strategy=strategy, on_progress=on_progress
        )
        kind = self.camera_decoder.first.weight.dtype
        with torch.autocast(images.device.type, enabled=False):
            poses = self.camera_decoder(tokens.camera.to(kind))
            depth, confidence, found = self._maps(
                [tap.flatten(0, 1).to(kind) for tap in tokens.taps],
                (height // PATCH_SIZE, width // PATCH_SIZE),
                chunk=head_chunk or default_head_chunk(images.device),
                rays=rays,
                on_progress=on_progress,
            )
        scenes, found_rays = images.shape[:2], None
        if found is not None:
            raw = found.unflatten(0, scenes).movedim(2, -1)
            found_rays = DA3Rays(raw[..., :6], 1 + raw[..., 6].exp())
        return DA3Output(
            depth=depth.unflatten(0, scenes),
            confidence=confidence.unflatten(0, scenes),
            poses=poses,
            reference=tokens.reference,
            rays=found_rays,
        )

    def _maps(
        self,
        taps: list[Float[Tensor, "n P C"]],
        grid: tuple[int, int],
        *,
        chunk: int,
        rays: bool,
        on_progress: StepCallback,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Depth, confidence and raw rays, a few views at a time: views are independent here."""
        depths, confidences, found = [], [], []
        views = len(taps[0])
        for start in range(0, views, chunk):
            on_progress("heads", start, views)
            parts = [tap[start : start + chunk] for tap in taps]
            raw, directions = self.head(parts, grid, rays=rays)
            depths.append(raw[:, 0].exp())
            confidences.append(1 + raw[:, 1].exp())
            found.append(directions)
        on_progress("heads", views, views)
        return torch.cat(depths), torch.cat(confidences), torch.cat(found) if rays else None


def default_head_chunk(device: torch.device) -> int:
    """Views that go through the head at once."""
    return CPU_HEAD_CHUNK if device.type == "cpu" else HEAD_CHUNK
