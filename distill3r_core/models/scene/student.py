"""The scene student: coordinates of one image's pixels in the frame of a scene it has learned."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distill3r_core.errors import RequestError
from distill3r_core.models.scene.chunks import chunk_of
from distill3r_core.models.scene.convolutional import MobileNetwork, PixelNetwork
from distill3r_core.models.scene.frames import place_points
from distill3r_core.models.scene.patches import PatchNetwork
from distill3r_core.models.scene.spec import SceneSpec
from distill3r_core.models.student import HeadName, Recompute
from distill3r_core.models.tokens.normalization import NormalizingStudent
from distill3r_core.nn.progress import ProgressCallback, Stretch, no_progress
from distill3r_core.types import Images, PointMaps


class SceneStudent(NormalizingStudent):
    """Each view by itself; its global map is in the network's frame, see `SceneFrame`."""

    COMPILED: ClassVar[tuple[str, ...]] = ("network",)

    spec: SceneSpec

    def __init__(
        self, network: PixelNetwork | MobileNetwork | PatchNetwork, spec: SceneSpec
    ) -> None:
        super().__init__(spec, spec.normalization)
        self.network = network

    def forward(
        self,
        images: Images | Sequence[Float[Tensor, "3 _ _"]],
        *,
        head: HeadName = "both",
        head_chunk: int | None = None,
        view_numbers: Int[Tensor, "B N"] | None = None,
        recompute: Recompute = "none",
        host: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> PointMaps | list[PointMaps]:
        """Coordinates of every pixel of every view; see `Student.forward`.

        The global map is in the network's frame (`placed` carries it into the scene's), of
        confidence 1. There is no local map: a view's own frame follows from its pose.

        Raises:
            RequestError: The local head is asked for, or there are no views.
        """
        if head == "local":
            raise RequestError(
                "a scene student predicts no map in the camera's own frame",
                hint="leave out --head; the camera's pose is found by PnP",
            )
        if not (images.shape[1] if isinstance(images, Tensor) else len(images)):
            raise RequestError("a sample without views")
        on_progress("heads", 0)
        out = torch.device("cpu") if host else self.device
        if isinstance(images, Tensor):
            points = self._chunks(images.flatten(0, 1), head_chunk, recompute, out, on_progress)
            return _maps(points.unflatten(0, images.shape[:2]))
        return [
            _maps(self._chunks(image[None], head_chunk, recompute, out, on_progress))
            for image in images
        ]

    def decode(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n H W 3"]:
        """Coordinates in the network's frame, in float32 or wider.

        Args:
            images: RGB in [0, 1], on any device.
        """
        inputs, out = self.normalized(images), self.network.out
        device, kind = inputs.device.type, self.product_dtype
        # In a lower precision where the weights were prepared for it.
        with nullcontext() if kind == torch.float32 else torch.autocast(device, dtype=kind):
            features = self.network(inputs)
        # Eight bits of a coordinate would be centimeters of a room.
        with torch.autocast(device, enabled=False):
            return out(features.to(out.weight.dtype)).movedim(1, -1)

    def placed(self, maps: PointMaps) -> PointMaps:
        """See `Student.placed`: in the frame and unit of the scene that each view shows."""
        if not self.spec.scenes:
            return maps
        assert maps.points_global is not None, "a scene student has this one map"
        return replace(maps, points_global=place_points(maps.points_global, self.spec.scenes))

    def progress_totals(self, views: int, head: HeadName) -> dict[Stretch, tuple[int, str]]:
        """One map for each view."""
        return {"heads": (views, "maps")}

    def exact_layers(self) -> Iterator[nn.Module]:
        """All of them: `decode` casts what they compute with."""
        yield from self.network.modules()

    def _chunks(
        self,
        images: Float[Tensor, "n 3 H W"],
        chunk: int | None,
        recompute: Recompute,
        out: torch.device,
        on_progress: ProgressCallback,
    ) -> Float[Tensor, "n H W 3"]:
        """Maps of all images, some at once; with gradients all, as batch norm asks for."""
        size = (images.shape[-2], images.shape[-1])
        found = []
        step = len(images) if self.training else chunk or chunk_of(self.spec, size, self.device)
        for part in images.split(step):
            if recompute != "none" and torch.is_grad_enabled():
                points = checkpoint(self.decode, part, use_reentrant=False)
                assert isinstance(points, Tensor)
            else:
                points = self.decode(part)
            found.append(points.to(out))
            on_progress("heads", len(part))
        return found[0] if len(found) == 1 else torch.cat(found)


def _maps(points: Float[Tensor, "*axes H W 3"]) -> PointMaps:
    confidence = points.new_ones(points.shape[:-1])
    return PointMaps(points, None, confidence, None)
