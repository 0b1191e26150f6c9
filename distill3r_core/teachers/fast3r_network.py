"""Fast3R's network (arXiv:2501.13928): CroCo encoder, a transformer over all views, two heads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from distill3r_core.nn.dpt import DPTHead, hooked_layers
from distill3r_core.nn.dpt_reference import published_maps
from distill3r_core.nn.encoder import PatchEmbed, RotaryEncoder
from distill3r_core.nn.fusion import Fusion
from distill3r_core.nn.maps import predict_maps
from distill3r_core.nn.progress import ProgressCallback, no_progress
from distill3r_core.teachers.fast3r_config import SCALED_ATTENTION, Fast3RConfig
from distill3r_core.types import PointMap

ENCODER_CHUNK = 400  # images of one size in one batch, as in the original
HEAD_CHUNK = 25


@dataclass(frozen=True)
class Fast3RMaps:
    """What the network says of one view, for every item of the batch."""

    global_maps: PointMap[Tensor]  # points in the frame of view 0's camera, and their confidence
    local_maps: PointMap[Tensor]  # points in the view's own frame, and their confidence


class Fast3R(nn.Module):
    """Point maps of many views in one pass.

    Args:
        dtype: Type of the attention's product and softmax, whatever surrounds them; None: as their
            inputs. The original takes bfloat16 on a GPU and nothing on a CPU.
    """

    def __init__(self, config: Fast3RConfig, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = RotaryEncoder(
            PatchEmbed(config.patch_size, config.encoder_width),
            width=config.encoder_width,
            depth=config.encoder_depth,
            heads=config.encoder_heads,
            dtype=dtype,
        )
        self.fusion = Fusion(
            config.encoder_width,
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
            attention_scale=SCALED_ATTENTION if config.scaled_attention else 1.0,
            dtype=dtype,
        )
        widths = (config.encoder_width, *[config.decoder_width] * 3)
        self.global_head = DPTHead(widths, patch_size=config.patch_size, spare_unit=True)
        self.local_head = DPTHead(widths, patch_size=config.patch_size, spare_unit=True)

    def forward(
        self,
        images: Sequence[Float[Tensor, "B 3 _ _"]],
        view_numbers: Int[Tensor, "B N"],
        *,
        portrait: Bool[Tensor, "B N"] | None = None,
        head_chunk: int = HEAD_CHUNK,
        reference: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> list[Fast3RMaps]:
        """Maps of every view, at the size that its image is stored in.

        Args:
            images: One entry per view, RGB in [-1, 1], sides multiples of the patch size.
            portrait: Items that are stored transposed, in landscape, though their true shape is
                portrait. None: none; only a landscape embedding knows of such.
            head_chunk: Views that go through a head at once.
            reference: The heads in the published order of operations, and every layer kept.
            on_progress: Called between encoded batches, blocks of the fusion and chunks of maps.
        """
        batch, views = len(images[0]), len(images)
        if portrait is None:
            portrait = torch.zeros(batch, views, dtype=torch.bool)
        assert self.config.landscape_embed or not portrait.any(), "pictures are stored upright"
        on_progress("encoder", 0)
        tokens = self._encode(images, portrait, on_progress)
        hooks = hooked_layers(self.config.decoder_depth)
        layers = self.fusion(
            torch.cat(tokens, dim=1),
            view_numbers,
            [part.shape[1] for part in tokens],
            layers=None if reference else hooks,
            on_progress=on_progress,
        )
        if reference:
            layers = [layers[hook] for hook in hooks]
        sizes = {tuple(image.shape[-2:]) for image in images}
        if len(sizes) == 1 and not portrait.any():
            return self._together(
                layers,
                sizes.pop(),
                views,
                head_chunk,
                reference=reference,
                on_progress=on_progress,
            )
        found, start = [], 0
        for index, image in enumerate(images):
            stop = start + tokens[index].shape[1]
            parts = [layer[:, start:stop] for layer in layers]
            found.append(
                self._apart(
                    parts,
                    image,
                    portrait[:, index],
                    head_chunk,
                    reference=reference,
                    on_progress=on_progress,
                )
            )
            start = stop
        return found

    def _encode(
        self,
        images: Sequence[Float[Tensor, "B 3 _ _"]],
        portrait: Bool[Tensor, "B N"],
        on_progress: ProgressCallback,
    ) -> list[Float[Tensor, "B P D"]]:
        """Tokens of every view; those of one size in one batch, otherwise view by view."""
        if len({image.shape for image in images}) > 1:
            return [
                self._encode_batch(image, portrait[:, index], on_progress)
                for index, image in enumerate(images)
            ]
        batch = len(images[0])
        stacked = torch.cat(list(images))  # (N*B, 3, H, W)
        done = self._encode_batch(stacked, portrait.T.flatten(), on_progress)
        return list(done.split(batch))

    def _encode_batch(
        self,
        images: Float[Tensor, "n 3 H W"],
        portrait: Bool[Tensor, " n"],
        on_progress: ProgressCallback,
    ) -> Float[Tensor, "n P D"]:
        if not portrait.any():
            parts = []
            for part in images.split(ENCODER_CHUNK):
                parts.append(self.encoder(part))
                on_progress("encoder", len(part))
            return torch.cat(parts)
        none = torch.zeros_like(portrait[portrait])
        upright = self._encode_batch(images[portrait].mT, none, on_progress)
        done = upright.new_empty(len(images), *upright.shape[1:])
        done[portrait] = upright
        if not portrait.all():
            rest = portrait[~portrait]
            done[~portrait] = self._encode_batch(images[~portrait], rest, on_progress)
        return done

    def _together(
        self,
        layers: Sequence[Tensor],
        size: tuple[int, ...],
        views: int,
        chunk: int,
        *,
        reference: bool,
        on_progress: ProgressCallback,
    ) -> list[Fast3RMaps]:
        """All views of one size through the heads, view after view."""
        grid = self._grid(size)
        predict = published_maps if reference else predict_maps
        rows = [
            layer.unflatten(1, (views, -1)).transpose(0, 1).flatten(0, 1)  # (N*B, P, D)
            for layer in layers
        ]
        both = []
        for head in (self.global_head, self.local_head):
            maps = predict(head, rows, grid, chunk=chunk, on_progress=on_progress)
            parts = zip(maps.points.chunk(views), maps.confidence.chunk(views), strict=True)
            both.append([PointMap(points, confidence) for points, confidence in parts])
        return [Fast3RMaps(*pair) for pair in zip(*both, strict=True)]

    def _apart(
        self,
        layers: Sequence[Float[Tensor, "B P _"]],
        image: Float[Tensor, "B 3 H W"],
        portrait: Bool[Tensor, " B"],
        chunk: int,
        *,
        reference: bool,
        on_progress: ProgressCallback,
    ) -> Fast3RMaps:
        """One view, its portrait items predicted upright and laid down again."""
        height, width = image.shape[-2:]
        upright = portrait if self.config.landscape_heads else torch.zeros_like(portrait)
        predict = published_maps if reference else predict_maps
        both = []
        for head in (self.global_head, self.local_head):
            points = image.new_empty(len(image), height, width, 3, dtype=torch.float32)
            confidence = points.new_empty(points.shape[:-1])
            for stands, chosen in ((False, ~upright), (True, upright)):
                if not chosen.any():
                    continue
                size = (width, height) if stands else (height, width)
                rows = [layer[chosen] for layer in layers]
                grid = self._grid(size)
                maps = predict(head, rows, grid, chunk=chunk, on_progress=on_progress)
                laid = maps.points.transpose(1, 2) if stands else maps.points
                points[chosen] = laid
                confidence[chosen] = maps.confidence.mT if stands else maps.confidence
            both.append(PointMap(points, confidence))
        return Fast3RMaps(*both)

    def _grid(self, size: tuple[int, ...]) -> tuple[int, int]:
        rows, columns = (side // self.config.patch_size for side in size)
        return rows, columns
