"""The dense prediction head of DPT (arXiv:2103.13413), as Fast3R and its students use it.

Two ways through the same weights. `reference` follows the published order of operations. The
default reorders what commutes: a 1x1 convolution before a bilinear upsampling instead of after
it (the weights of the interpolation add up to 1), and the finest 1x1 folded into the 3x3 behind
it. The function is the same up to rounding.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, relu

LAYER_WIDTHS = (96, 192, 384, 768)  # of Fast3R and Distill3R
FEATURES = 256


def hooked_layers(depth: int) -> tuple[int, int, int, int]:
    """The layers of a fusion transformer that a head reads: start, half, three quarters, end."""
    return (0, depth * 2 // 4, depth * 3 // 4, depth)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions behind ReLUs, around which the input is carried unchanged."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Float[Tensor, "n F h w"]) -> Float[Tensor, "n F h w"]:
        """`x + conv2(relu(conv1(relu(x))))`."""
        return x + self.conv2(relu(self.conv1(relu(x))))


class FusionStage(nn.Module):
    """Merge a finer map into the coarser ones and double the resolution.

    Args:
        features: Channels.
        skip: Whether it has the unit for a finer map.
    """

    def __init__(self, features: int, *, skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(features) if skip else None
        self.unit = ResidualUnit(features)
        self.mix = nn.Conv2d(features, features, 1)

    def merge(self, x: Tensor, finer: Tensor | None) -> Float[Tensor, "n F h w"]:
        """Everything before the upsampling and the 1x1 convolution."""
        if finer is not None:
            assert self.skip_unit is not None
            x = x + self.skip_unit(finer)
        return self.unit(x)


class DPTHead(nn.Module):
    """From four layers of tokens to a map of `channels` numbers per pixel.

    Args:
        widths: Channels of the tokens of the four layers.
        patch_size: Pixels along a patch.
        features: Channels of the merged maps.
        layer_widths: Channels of each layer after its 1x1 convolution.
        tail_width: Channels at full resolution; None: half of `features`.
        channels: Of the result.
        spare_unit: Keep the unit that released checkpoints carry and no forward pass reads
            (frozen, so that no gradient is expected of it).
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        patch_size: int,
        features: int = FEATURES,
        layer_widths: Sequence[int] = LAYER_WIDTHS,
        tail_width: int | None = None,
        channels: int = 4,
        spare_unit: bool = False,
    ) -> None:
        super().__init__()
        tail = tail_width or features // 2
        self.patch_size = patch_size
        self.project = nn.ModuleList(
            nn.Conv2d(width, inner, 1) for width, inner in zip(widths, layer_widths, strict=True)
        )
        first, second, _, last = layer_widths
        self.resize = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(last, last, 3, stride=2, padding=1),
            ]
        )
        self.reduce = nn.ModuleList(
            nn.Conv2d(inner, features, 3, padding=1, bias=False) for inner in layer_widths
        )
        stages = [FusionStage(features, skip=index < 3 or spare_unit) for index in range(4)]
        if stages[3].skip_unit is not None:
            stages[3].skip_unit.requires_grad_(False)
        self.stages = nn.ModuleList(stages)
        self.narrow = nn.Conv2d(features, tail, 3, padding=1)
        self.refine = nn.Conv2d(tail, tail, 3, padding=1)
        self.out = nn.Conv2d(tail, channels, 1)

    def forward(
        self,
        layers: Sequence[Float[Tensor, "n P _"]],
        grid: tuple[int, int],
        *,
        reference: bool = False,
    ) -> Float[Tensor, "n channels H W"]:
        """The raw map, before any activation.

        Args:
            layers: Tokens of the four hooked layers, patches in row-major order.
            grid: Rows and columns of patches.
            reference: In the published order of operations.
        """
        maps = self._reassemble(layers, grid)
        size = (self.patch_size * grid[0], self.patch_size * grid[1])
        if reference:
            return self._published_order(maps, grid, size)
        coarsest, *between, finest = self._from_coarse_to_fine()
        x = coarsest.merge(maps[3], None)
        x = _upsample(coarsest.mix(x), _doubled(x))[..., : grid[0], : grid[1]]
        for stage, finer in zip(between, (maps[2], maps[1]), strict=True):
            x = stage.merge(x, finer)
            x = _upsample(stage.mix(x), _doubled(x))
        x = finest.merge(x, maps[0])
        x = _folded(_upsample(x, _doubled(x)), finest.mix, self.narrow)
        x = relu(self.refine(_upsample(x, size)))
        return self.out(x.to(self.out.weight.dtype))

    def _from_coarse_to_fine(self) -> list[FusionStage]:
        return [stage for stage in reversed(self.stages) if isinstance(stage, FusionStage)]

    def _reassemble(
        self, layers: Sequence[Tensor], grid: tuple[int, int]
    ) -> list[Float[Tensor, "n F _ _"]]:
        """Tokens back on their grid, at four resolutions, with one number of channels."""
        maps = []
        for index, tokens in enumerate(layers):
            # (n, C, h, w), in memory still channels last, which is what convolutions like
            x = tokens.to(self.narrow.weight.dtype).mT.unflatten(2, grid)
            maps.append(self.reduce[index](self.resize[index](self.project[index](x))))
        return maps

    def _published_order(
        self, maps: Sequence[Tensor], grid: tuple[int, int], size: tuple[int, int]
    ) -> Float[Tensor, "n channels H W"]:
        coarsest, *others = self._from_coarse_to_fine()
        x = coarsest.merge(maps[3], None)
        x = coarsest.mix(_plain_upsample(x, _doubled(x)))[..., : grid[0], : grid[1]]
        for stage, finer in zip(others, reversed(maps[:3]), strict=True):
            x = stage.merge(x, finer)
            x = stage.mix(_plain_upsample(x, _doubled(x)))
        x = _plain_upsample(self.narrow(x), size)
        return self.out(relu(self.refine(x)).to(self.out.weight.dtype))


def _doubled(x: Tensor) -> tuple[int, int]:
    return 2 * x.shape[-2], 2 * x.shape[-1]


def _plain_upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(x, size, mode="bilinear", align_corners=True)


def _upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, in the type of `x`: autocast would take it to float32 and back on CUDA."""
    with torch.autocast(x.device.type, enabled=False):
        return _plain_upsample(x, size)


def _folded(
    x: Float[Tensor, "n F h w"], mix: nn.Conv2d, narrow: nn.Conv2d
) -> Float[Tensor, "n D h w"]:
    """`narrow(mix(x))` as one 3x3 convolution.

    The bias of `mix` reaches a pixel through those taps of `narrow` that lie inside the map, so
    the pixels on the rim get less of it.
    """
    weight = torch.einsum("omij,mf->ofij", narrow.weight, mix.weight[:, :, 0, 0])
    assert mix.bias is not None and narrow.bias is not None
    taps = torch.einsum("omij,m->oij", narrow.weight, mix.bias)  # what each tap adds
    y = conv2d(x, weight, narrow.bias + taps.sum((1, 2)), padding=1)
    taps = taps.to(y.dtype)
    for row, side in ((0, 0), (-1, 2)):
        y[:, :, row] -= taps[:, side].sum(-1)[:, None]
        for column, other in ((0, 0), (-1, 2)):  # taken away twice
            y[:, :, row, column] += taps[:, side, other]
    for column, other in ((0, 0), (-1, 2)):
        y[:, :, :, column] -= taps[:, :, other].sum(-1)[:, None]
    return y
