"""The dense prediction head of DPT (arXiv:2103.13413), as Fast3R and its students use it.

The published order of operations is in `dpt_reference`. Here what commutes is reordered: a 1x1
convolution comes before a bilinear upsampling instead of after it (the weights of the
interpolation add up to 1), and on a CPU the finest 1x1 is folded into the 3x3 behind it. The
function is the same up to rounding.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, relu

from distill3r_core.nn.kernels.fused import convolve_relu, convolve_upsample, upsample, without_bias
from distill3r_core.nn.kernels.upsampled import convolve_upsampled

LAYER_WIDTHS = (96, 192, 384, 768)  # of Fast3R and Distill3R
FEATURES = 256
_MANY_CHANNELS = 64  # from which the arithmetic outweighs the steps that save it


def hooked_layers(depth: int) -> tuple[int, int, int, int]:
    """The layers of a fusion transformer that a head reads: start, half, three quarters, end."""
    return (0, depth * 2 // 4, depth * 3 // 4, depth)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions behind ReLUs, and a skip path around them.

    Args:
        rectified: The skip path carries `relu(x)`, as in VGGT, instead of `x`.
    """

    def __init__(self, features: int, *, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Float[Tensor, "n F h w"]) -> Float[Tensor, "n F h w"]:
        """`x + conv2(relu(conv1(relu(x))))`, in as few passes over memory as that takes."""
        positive = relu(x)
        skip = positive if self.rectified else x
        return self.conv2(convolve_relu(positive, self.conv1)).add_(skip)


class RefinementStage(nn.Module):
    """Merge a finer map into the coarser ones.

    Args:
        skip: Whether it has the unit for a finer map.
        rectified: See `ResidualUnit`.
    """

    def __init__(self, features: int, *, skip: bool, rectified: bool = False) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(features, rectified=rectified) if skip else None
        self.unit = ResidualUnit(features, rectified=rectified)
        self.mix = nn.Conv2d(features, features, 1)

    def merge(self, x: Tensor, finer: Tensor | None) -> Float[Tensor, "n F h w"]:
        """Everything before the upsampling and the 1x1 convolution."""
        if finer is not None:
            assert self.skip_unit is not None
            x = self.skip_unit(finer).add_(x)
        return self.unit(x)


class DPTHead(nn.Module):
    """From four layers of tokens to a map of `channels` numbers per pixel.

    Args:
        widths: Channels of the tokens of the four layers.
        patch_size: Pixels along a patch.
        layer_widths: Channels of each layer after its 1x1 convolution.
        tail_width: Channels at full resolution; None: half of `features`.
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
        self.resize = resizing_layers(layer_widths)
        self.reduce = nn.ModuleList(
            nn.Conv2d(inner, features, 3, padding=1, bias=False) for inner in layer_widths
        )
        stages = [RefinementStage(features, skip=index < 3 or spare_unit) for index in range(4)]
        if stages[3].skip_unit is not None:
            stages[3].skip_unit.requires_grad_(False)
        self.stages = nn.ModuleList(stages)
        self.narrow = nn.Conv2d(features, tail, 3, padding=1)
        self.refine = nn.Conv2d(tail, tail, 3, padding=1)
        self.out = nn.Conv2d(tail, channels, 1)

    def forward(
        self, layers: Sequence[Float[Tensor, "n P _"]], grid: tuple[int, int], *, last: bool = True
    ) -> Float[Tensor, "n _ H W"]:
        """The raw map, before any activation.

        Args:
            layers: Tokens of the four hooked layers, patches in row-major order.
            grid: Rows and columns of patches.
            last: Run all of it. Without, the map has the tail's channels: it is what the last 3x3
                convolution gives before its bias, its ReLU and the 1x1 convolution.
        """
        maps = self._reassemble(layers, grid)
        size = (self.patch_size * grid[0], self.patch_size * grid[1])
        coarsest, *between, finest = self.from_coarse_to_fine()
        x = coarsest.merge(maps.pop(), None)
        x = upsample(pointwise(x, coarsest.mix), doubled(x))[..., : grid[0], : grid[1]]
        for stage in between:
            x = stage.merge(x, maps.pop())
            x = upsample(pointwise(x, stage.mix), doubled(x))
        x = finest.merge(x, maps.pop())
        if _is_folding_worthwhile(x):
            x = upsample(_folded(x, finest.mix, self.narrow), size)
        else:
            x = upsample(pointwise(x, finest.mix), doubled(x))
            x = convolve_upsample(x, self.narrow, size)
        if not last:
            return without_bias(x, self.refine)
        x = convolve_relu(x, self.refine)
        if not torch.is_autocast_enabled(x.device.type):  # which casts by itself
            x = x.to(self.out.weight.dtype)
        return pointwise(x, self.out)

    def from_coarse_to_fine(self) -> list[RefinementStage]:
        """The stages in the order in which they run."""
        return [stage for stage in reversed(self.stages) if isinstance(stage, RefinementStage)]

    def _reassemble(
        self, layers: Sequence[Tensor], grid: tuple[int, int]
    ) -> list[Float[Tensor, "n F _ _"]]:
        """Tokens back on their grid, at four resolutions, with one number of channels."""
        maps = []
        for tokens, project, resize, reduce in zip(
            layers, self.project, self.resize, self.reduce, strict=True
        ):
            assert isinstance(project, nn.Conv2d)
            weight, bias = project.weight[:, :, 0, 0], project.bias
            x = linear(tokens.to(weight.dtype), weight, bias).to(self.narrow.weight.dtype)
            # (n, C, h, w), in memory still channels last, which is what convolutions like. The
            # axes are moved last: only so one view alone is seen to lie that way too.
            maps.append(reduce(resize(x.unflatten(1, grid).permute(0, 3, 1, 2))))
        return maps


def resizing_layers(layer_widths: Sequence[int]) -> nn.ModuleList:
    """From the grid of patches to 4, 2, 1 and 0.5 times its size.

    Args:
        layer_widths: Channels of the four maps, which they keep.
    """
    first, second, _, last = layer_widths
    return nn.ModuleList(
        [
            nn.ConvTranspose2d(first, first, 4, stride=4),
            nn.ConvTranspose2d(second, second, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(last, last, 3, stride=2, padding=1),
        ]
    )


def doubled(x: Tensor) -> tuple[int, int]:
    """Twice the size of a map."""
    return 2 * x.shape[-2], 2 * x.shape[-1]


def pointwise(x: Float[Tensor, "n C h w"], layer: nn.Conv2d) -> Float[Tensor, "n D h w"]:
    """A 1x1 convolution as the matrix product that it is in channels-last memory."""
    y = linear(x.permute(0, 2, 3, 1), layer.weight[:, :, 0, 0], layer.bias)
    return y.permute(0, 3, 1, 2)


def _is_folding_worthwhile(x: Tensor) -> bool:
    """It saves a pass over the map, and costs one over its rim and a gradient through both."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def _is_split_worthwhile(x: Tensor) -> bool:
    """Where arithmetic is dear, and rounding three times instead of once does not show."""
    exact = x.dtype in (torch.float32, torch.float64)
    plain = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return x.device.type == "cpu" and x.shape[1] >= _MANY_CHANNELS and exact and plain


def _folded(
    x: Float[Tensor, "n F h w"], mix: nn.Conv2d, narrow: nn.Conv2d
) -> Float[Tensor, "n D H W"]:
    """`narrow(mix(upsample(x)))` with one 3x3 convolution, to twice the size.

    The bias of `mix` reaches a pixel through those taps of `narrow` that lie inside the map, so
    the pixels on the rim get less of it.
    """
    assert mix.bias is not None and narrow.bias is not None
    kind = torch.promote_types(narrow.weight.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):  # rounded once, not once per factor
        taps = narrow.weight.to(kind)
        weight = torch.einsum("omij,mf->ofij", taps, mix.weight[:, :, 0, 0].to(kind))
        taps = torch.einsum("omij,m->oij", taps, mix.bias.to(kind))  # what each tap adds
        bias = narrow.bias + taps.sum((1, 2))
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        if _is_split_worthwhile(x):
            y = convolve_upsampled(x, weight, bias, doubled(x))
        else:
            y = conv2d(upsample(x, doubled(x)), weight, bias, padding=1)
    taps = taps.to(y.dtype)
    for row, side in ((0, 0), (-1, 2)):
        y[:, :, row] -= taps[:, side].sum(-1)[:, None]
        for column, other in ((0, 0), (-1, 2)):  # taken away twice
            y[:, :, row, column] += taps[:, side, other]
    for column, other in ((0, 0), (-1, 2)):
        y[:, :, :, column] -= taps[:, :, other].sum(-1)[:, None]
    return y
