"""The descriptor branch of MASt3R's heads (arXiv:2406.09756)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, pixel_shuffle


class DescriptorHead(nn.Module):
    """Local features of a patch's pixels from its encoder and decoder tokens.

    Args:
        width: Channels of both tokens together.
        channels: Channels of a descriptor.
        patch_size: Pixels along a patch.
    """

    def __init__(self, width: int, *, channels: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, (channels + 1) * patch_size**2)

    def forward(
        self, tokens: Float[Tensor, "B P D"], grid: tuple[int, int]
    ) -> tuple[Float[Tensor, "B H W C"], Float[Tensor, "B H W"]]:
        """Descriptors of length 1, and their confidence."""
        numbers = self.fc2(gelu(self.fc1(tokens))).mT.unflatten(-1, grid)
        raw = pixel_shuffle(numbers, self.patch_size).permute(0, 2, 3, 1)
        descriptors = raw[..., :-1]
        return descriptors / descriptors.norm(dim=-1, keepdim=True), raw[..., -1].exp()
