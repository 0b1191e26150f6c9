"""MobileNetV3-Large (arXiv:1905.02244) down to a sixteenth of the resolution, with timm's names."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid, hardswish, relu
from torch.utils.checkpoint import checkpoint

from distill3r_core.config import STRICT

STEM_CHANNELS = 16
TRUNK_CHANNELS = 112
STRIDE = 16  # pixels along a token of the last stage
_DIVISOR = 8  # numbers of channels are multiples of it
_LARGEST_LOSS = 0.9  # share of the channels that rounding must keep


@dataclass(frozen=True)
class InvertedBlock:
    """One inverted residual block.

    Args:
        expanded: Channels of the depthwise convolution.
        squeeze: Weigh channels by their means (squeeze and excitation).
        hard: Hard swish; otherwise ReLU.
    """

    kernel: int
    inputs: int
    expanded: int
    outputs: int
    stride: int = 1
    squeeze: bool = False
    hard: bool = False

    @property
    def squeezed(self) -> int:
        """Channels between the two layers of squeeze and excitation."""
        quarter = self.expanded / 4
        rounded = max(_DIVISOR, int(quarter + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
        return rounded + _DIVISOR if rounded < _LARGEST_LOSS * quarter else rounded


# Stages of the published network up to stride 16.
STAGES: tuple[tuple[InvertedBlock, ...], ...] = (
    (InvertedBlock(3, 16, 16, 16),),
    (InvertedBlock(3, 16, 64, 24, stride=2), InvertedBlock(3, 24, 72, 24)),
    (
        InvertedBlock(5, 24, 72, 40, stride=2, squeeze=True),
        InvertedBlock(5, 40, 120, 40, squeeze=True),
        InvertedBlock(5, 40, 120, 40, squeeze=True),
    ),
    (
        InvertedBlock(3, 40, 240, 80, stride=2, hard=True),
        InvertedBlock(3, 80, 200, 80, hard=True),
        InvertedBlock(3, 80, 184, 80, hard=True),
        InvertedBlock(3, 80, 184, 80, hard=True),
    ),
    (
        InvertedBlock(3, 80, 480, 112, squeeze=True, hard=True),
        InvertedBlock(3, 112, 672, 112, squeeze=True, hard=True),
    ),
)


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class MobileNetSpec:
    """MobileNetV3-Large as an encoder: tokens are the pixels of its map at stride 16."""

    patch: ClassVar[int] = STRIDE
    width: ClassVar[int] = TRUNK_CHANNELS

    kind: Literal["cnn"]

    def build(self) -> "MobileNetEncoder":
        """Build the encoder with random weights."""
        return MobileNetEncoder()


class SqueezeExcitation(nn.Module):
    """Weigh every channel by a function of the means of all."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, maps: Float[Tensor, "n C h w"]) -> Float[Tensor, "n C h w"]:
        """The maps, each channel by its factor."""
        means = maps.mean((2, 3), keepdim=True)
        return maps * hardsigmoid(self.conv_expand(relu(self.conv_reduce(means))))


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, weigh channels, narrow; and a skip path.

    The first block of the network does not widen; its last two layers have other names.
    """

    def __init__(self, block: InvertedBlock) -> None:
        super().__init__()
        self.block = block
        self.widens = block.expanded != block.inputs
        if self.widens:
            self.conv_pw = nn.Conv2d(block.inputs, block.expanded, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(block.expanded)
        self.conv_dw = nn.Conv2d(
            block.expanded,
            block.expanded,
            block.kernel,
            stride=block.stride,
            padding=block.kernel // 2,
            groups=block.expanded,
            bias=False,
        )
        depthwise = nn.BatchNorm2d(block.expanded)
        narrow = nn.Conv2d(block.expanded, block.outputs, 1, bias=False)
        self.se = SqueezeExcitation(block.expanded, block.squeezed) if block.squeeze else None
        if self.widens:
            self.bn2, self.conv_pwl = depthwise, narrow
            self.bn3 = nn.BatchNorm2d(block.outputs)
        else:
            self.bn1, self.conv_pw = depthwise, narrow
            self.bn2 = nn.BatchNorm2d(block.outputs)

    def forward(self, maps: Float[Tensor, "n C h w"]) -> Float[Tensor, "n D _ _"]:
        """One block; the last layer has no activation."""
        activation = hardswish if self.block.hard else relu
        x = activation(self.bn1(self.conv_pw(maps))) if self.widens else maps
        x = activation((self.bn2 if self.widens else self.bn1)(self.conv_dw(x)))
        if self.se is not None:
            x = self.se(x)
        x = self.bn3(self.conv_pwl(x)) if self.widens else self.bn2(self.conv_pw(x))
        return x + maps if maps.shape == x.shape else x


class MobileNetEncoder(nn.Module):
    """Images to tokens: what is computed for stride 16, and nothing of the stages behind it.

    Batch norms measure the images of a pass while training, and use their running means after it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(InvertedResidual(block) for block in stage)) for stage in STAGES
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    @property
    def entrance(self) -> nn.Module:
        """The layers that turn pixels into tokens: all, as batch norms do not cast."""
        return self

    def prepare_lower_precision(self, dtype: torch.dtype) -> None:
        """Nothing to change: this encoder stays in float32."""

    def forward(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool = False
    ) -> Float[Tensor, "n P D"]:
        """Tokens of every image, in row-major order.

        Args:
            images: As the weights expect them to be normalized.
            recompute: Keep nothing inside a stage for the backward pass, compute it again there.
                Running means are then brought up to date twice in a step.
        """
        return self.maps(images, recompute=recompute).flatten(2).mT  # (n, P, D)

    def maps(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool = False
    ) -> Float[Tensor, "n D h w"]:
        """What the tokens are the pixels of, see `forward`."""
        x = hardswish(self.bn1(self.conv_stem(images.to(self.conv_stem.weight.dtype))))
        for stage in self.blocks:
            again = recompute and torch.is_grad_enabled()
            x = checkpoint(stage, x, use_reentrant=False) if again else stage(x)
        return x


def convolutions(size: tuple[int, int]) -> Iterator[tuple[tuple[int, int], tuple[int, int], int]]:
    """The convolutions of one image: (pixels, channels) in and out, and taps times group width.

    Args:
        size: Rows and columns of the image, multiples of 16.
    """
    pixels = size[0] * size[1]
    yield (pixels, 3), (pixels // 4, STEM_CHANNELS), 9
    pixels //= 4
    for block in (block for stage in STAGES for block in stage):
        after = pixels // block.stride**2
        if block.expanded != block.inputs:
            yield (pixels, block.inputs), (pixels, block.expanded), 1
        # A depthwise convolution: one input channel for each output channel.
        yield (pixels * block.expanded, 1), (after * block.expanded, 1), block.kernel**2
        if block.squeeze:
            yield (1, block.expanded), (1, block.squeezed), 1
            yield (1, block.squeezed), (1, block.expanded), 1
        yield (after, block.expanded), (after, block.outputs), 1
        pixels = after
