"""The two convolutional networks of the scene family."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, relu

from distill3r_core.models.encoders.mobilenet import STRIDE, TRUNK_CHANNELS, MobileNetEncoder


class PixelNetwork(nn.Module):
    """Convolutions at full resolution (arXiv:2412.02039, the CNN trained from scratch).

    5x5 with w/8, w/4, w/2 and w channels, 1x1, 5x5, two more 1x1 of w, and 1x1 to coordinates.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, width // 8, width // 4, width // 2, *(width,) * 5)
        kernels = (5, 5, 5, 5, 1, 5, 1, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            for (inputs, outputs), kernel in zip(pairwise(widths), kernels, strict=True)
        )
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n C H W"]:
        """What `out` makes coordinates of, for every pixel."""
        features = images
        for layer in self.layers:
            features = relu(layer(features))
        return features


class MobileNetwork(nn.Module):
    """MobileNetV3-Large's trunk, and coordinates by one pixel shuffle (arXiv:2412.02039).

    Args:
        channels: Numbers that the shuffle gives each pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = MobileNetEncoder()
        shuffled = channels * STRIDE**2
        self.neck = nn.Sequential(
            *_normalized(nn.Conv2d(TRUNK_CHANNELS, shuffled, 1)),
            *_normalized(nn.Conv2d(shuffled, shuffled, 1)),
        )
        self.pixels = nn.Sequential(*_normalized(nn.Conv2d(channels, 3, 7, padding=3)))
        self.out = nn.Conv2d(3, 3, 1)

    def forward(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 3 H W"]:
        """What `out` makes coordinates of; sides that are no multiple of 16 are padded."""
        height, width = images.shape[-2:]
        features = self.trunk.maps(pad_to_multiple(images, STRIDE))
        features = pixel_shuffle(self.neck(features), STRIDE)
        return self.pixels(features)[..., :height, :width]


def _normalized(layer: nn.Conv2d) -> tuple[nn.Module, ...]:
    return layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()


def pad_to_multiple(images: Float[Tensor, "n c H W"], step: int) -> Float[Tensor, "n c h w"]:
    """Repeat the last row and column until both sides are multiples of `step`."""
    height, width = images.shape[-2:]
    below, right = -height % step, -width % step
    return pad(images, (0, right, 0, below), mode="replicate") if below or right else images
