"""The convolutional stem of the small students (arXiv:2106.14881: early convolutions help)."""

from jaxtyping import Float
from torch import Tensor, nn

_STEPS = (2, 7)  # their product is the patch size
STEM_WIDTH = 24  # channels at half the resolution


class ConvolutionalStem(nn.Module):
    """Three convolutions from pixels to one token per patch of 14 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        halved, whole = _STEPS
        self.layers = nn.Sequential(
            nn.Conv2d(3, STEM_WIDTH, 3, stride=halved, padding=1),
            nn.GELU(),
            nn.Conv2d(STEM_WIDTH, STEM_WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(STEM_WIDTH, width, whole, stride=whole),
        )

    def forward(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n D h w"]:
        """Tokens on the grid of patches."""
        first = self.layers[0]
        assert isinstance(first, nn.Conv2d)
        return self.layers(images.to(first.weight.dtype))
