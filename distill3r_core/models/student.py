"""The student: every view through the encoder, all of them through the fusion, two heads."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill3r_core.errors import RequestError
from distill3r_core.models.chunks import encoder_chunk, head_chunk_of
from distill3r_core.models.groups import Group, group_by_size, tokens_of
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.spec import StudentSpec, ViewCodes
from distill3r_core.nn.dpt import DPTHead, hooked_layers
from distill3r_core.nn.fusion import Fusion
from distill3r_core.nn.maps import predict_maps
from distill3r_core.nn.progress import ProgressCallback, no_progress
from distill3r_core.nn.view_codes import (
    TABLE_ROWS,
    generator_from_global,
    random_view_numbers,
    sequential_view_numbers,
)
from distill3r_core.types import Images, PointMap, PointMaps

NORMALIZATIONS = {
    "unit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
HeadName = Literal["both", "global", "local"]
Recompute = Literal["none", "heads", "all"]


class Student(nn.Module):
    """Point maps of many views in one pass.

    Args:
        encoder: From normalized images (n, 3, H, W) to patch tokens (n, P, D).
        fusion: The transformer over all views.
        global_head: Points in the frame of view 0's camera.
        local_head: Points in each view's own frame.
        spec: What the parts are made of, and the properties of the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        encoder: nn.Module,
        fusion: Fusion,
        global_head: DPTHead,
        local_head: DPTHead,
        spec: StudentSpec,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.fusion = fusion
        self.global_head = global_head
        self.local_head = local_head
        self.metadata: StudentMetadata | None = None
        mean, deviation = NORMALIZATIONS[spec.normalization]
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)

    def forward(
        self,
        images: Images | Sequence[Float[Tensor, "3 _ _"]],
        *,
        head: HeadName = "both",
        head_chunk: int | None = None,
        view_codes: ViewCodes | None = None,
        generator: torch.Generator | None = None,
        view_numbers: Int[Tensor, "B N"] | None = None,
        recompute: Recompute = "none",
        host: bool = False,
        reference: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> PointMaps | list[PointMaps]:
        """Points and confidences for every pixel of every view.

        Args:
            images: RGB in [0, 1], sides multiples of 14; on the device of the weights, or
                elsewhere, whence they are fetched a few at a time. A list holds the views of one
                sample, which may differ in size.
            head: Which maps are wanted. The others are None.
            head_chunk: Views that go through a head at once; None: what suits the device.
            view_codes: How views are numbered; None: as the spec says while training, else
                sequentially.
            generator: Of random numbers, on the CPU; None: one seeded from torch's global one.
            view_numbers: The number of every view, on any device; None: as the two above say.
            recompute: What a backward pass computes again instead of keeping it: the heads (a
                quarter more work, less than half the memory), or every block as well.
            host: Give the maps on the host, without gradients through pinned memory.
            reference: The published order of operations, everything at once: slow, large, and
                what the default is held to.
            on_progress: How far it is: of views, blocks and maps.

        Returns:
            Maps with the axes of `images`; for a list, one entry per view, each (1, H, W, ...).

        Raises:
            RequestError: A side is not a multiple of 14, or there are more than 1000 views.
        """
        groups, count = group_by_size(images)
        batch = groups[0].images.shape[0]
        numbers = view_numbers
        if numbers is None:
            numbers = self._view_numbers(batch, count, view_codes, generator)
        layers = self._layers(
            groups,
            numbers,
            count,
            reference=reference,
            recompute=recompute == "all",
            on_progress=on_progress,
        )
        device = torch.device("cpu") if host else self.mean.device
        heads = {"global": self.global_head, "local": self.local_head}
        found: list[PointMaps | None] = [None] * count
        for group, tokens in layers:
            maps = {
                name: self._maps(
                    module,
                    tokens,
                    group,
                    head_chunk,
                    device,
                    reference=reference,
                    recompute=recompute != "none",
                    on_progress=on_progress,
                )
                if head in ("both", name)
                else None
                for name, module in heads.items()
            }
            if isinstance(images, Tensor):
                return _assemble(maps, batch)
            for row, place in enumerate(group.places):
                found[place] = _assemble(
                    {
                        name: m and PointMap(m.points[row, None], m.confidence[row, None])
                        for name, m in maps.items()
                    }
                )
        return [maps for maps in found if maps is not None]

    def encode(
        self,
        images: Float[Tensor, "n 3 H W"],
        *,
        chunk: int | None = None,
        recompute: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> Float[Tensor, "n P D"]:
        """Patch tokens of pictures, RGB in [0, 1].

        Args:
            images: On any device.
            chunk: Pictures at once; None: all.
            recompute: See `RotaryEncoder.forward`.
            on_progress: Of every chunk.
        """
        on_progress("encoder", 0)
        parts = []
        for part in images.split(chunk or len(images)):
            parts.append(self.encoder(self._normalized(part), recompute=recompute))
            on_progress("encoder", len(part))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _normalized(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H W"]:
        images = images.to(self.mean.device, non_blocking=True)
        return (images - self.mean) / self.deviation

    def _view_numbers(
        self,
        batch: int,
        count: int,
        view_codes: ViewCodes | None,
        generator: torch.Generator | None,
    ) -> Int[Tensor, "B N"]:
        if count > TABLE_ROWS:
            raise RequestError(f"{count} views: this student can tell {TABLE_ROWS} apart")
        default = self.spec.view_codes if self.training else "sequential"
        if (view_codes or default) == "sequential":
            return sequential_view_numbers(batch, count)
        return random_view_numbers(batch, count, generator or generator_from_global())

    def _layers(
        self,
        groups: Sequence[Group],
        numbers: Tensor,
        count: int,
        *,
        reference: bool,
        recompute: bool,
        on_progress: ProgressCallback,
    ) -> Iterator[tuple[Group, list[Tensor]]]:
        """For each group the four layers that heads read, (B n, P, channels) each."""
        batch = groups[0].images.shape[0]
        at_once = reference or torch.is_grad_enabled()
        encoded = [
            self.encode(
                group.images.flatten(0, 1),
                chunk=None if at_once else encoder_chunk(group.patches, self.mean.device),
                recompute=recompute,
                on_progress=on_progress,
            ).unflatten(0, (batch, -1))
            for group in groups
        ]
        hooks = hooked_layers(self.spec.fusion_depth)
        if len(groups) == 1:
            tokens = encoded[0].flatten(1, 2)  # (B, N P, D)
            lengths = [groups[0].patches] * count
        else:
            views: list[Tensor] = [encoded[0]] * count
            for group, part in zip(groups, encoded, strict=True):
                for row, place in enumerate(group.places):
                    views[place] = part[:, row]
            tokens = torch.cat(views, dim=1)
            lengths = [view.shape[1] for view in views]
            del views
        del encoded
        found = self.fusion(
            tokens,
            numbers,
            lengths,
            layers=None if reference else hooks,
            recompute=recompute,
            on_progress=on_progress,
        )
        kept = [found[hook] for hook in hooks] if reference else found
        del tokens, found  # while heads run only what they read is in memory
        for group in groups:
            yield group, [tokens_of(layer, group, lengths) for layer in kept]

    def _maps(
        self,
        head: DPTHead,
        tokens: Sequence[Tensor],
        group: Group,
        chunk: int | None,
        device: torch.device,
        *,
        reference: bool,
        recompute: bool,
        on_progress: ProgressCallback,
    ) -> PointMap[Tensor]:
        if reference or torch.is_grad_enabled():
            maps = predict_maps(
                head,
                tokens,
                group.grid,
                chunk=chunk,
                recompute=recompute,
                reference=reference,
                on_progress=on_progress,
            )
            return PointMap(maps.points.to(device), maps.confidence.to(device))
        count, (rows, columns) = len(tokens[0]), group.images.shape[-2:]
        chunk = chunk or head_chunk_of(self.spec, (rows, columns), self.mean.device, views=count)
        if chunk >= count and device == self.mean.device:
            return predict_maps(head, tokens, group.grid, on_progress=on_progress)
        kind = torch.promote_types(self.mean.dtype, torch.float32)
        pinned = device.type == "cpu" and self.mean.device.type == "cuda"
        into = PointMap(
            torch.empty(count, rows, columns, 3, dtype=kind, device=device, pin_memory=pinned),
            torch.empty(count, rows, columns, dtype=kind, device=device, pin_memory=pinned),
        )
        maps = predict_maps(
            head, tokens, group.grid, chunk=chunk, into=into, on_progress=on_progress
        )
        if pinned:
            torch.cuda.synchronize(self.mean.device)
        return maps


def _assemble(maps: dict[str, PointMap[Tensor] | None], batch: int | None = None) -> PointMaps:
    """Point maps of all views; with `batch`, the axis of samples is brought back."""
    if batch is not None:
        maps = {
            name: m
            and PointMap(m.points.unflatten(0, (batch, -1)), m.confidence.unflatten(0, (batch, -1)))
            for name, m in maps.items()
        }
    return PointMaps.from_maps(maps["global"], maps["local"])
