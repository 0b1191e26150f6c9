"""DPT heads that know where on the image plane a feature lies, as VGGT and Depth Anything 3 have.

They differ from `DPTHead` in three ways: one layer norm for all taps, codes of the image plane
added to the projected taps and before the last convolutions, and maps that are resized to the
size of the next finer tap instead of being doubled.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from distill3r_core.nn.dpt import RefinementStage, doubled, pointwise, resizing_layers
from distill3r_core.nn.kernels.fused import upsample

CODE_BASE = 100.0
CODE_WEIGHT = 0.1


def plane_codes(
    size: tuple[int, int], channels: int, aspect: float, *, like: Tensor
) -> Float[Tensor, "C h w"]:
    """Sines and cosines of every feature's place on the image plane, whose diagonal is 2 long.

    Args:
        size: Rows and columns of the feature map.
        channels: A multiple of 4; the first half codes x, the second y, each sines then cosines.
        aspect: Width over height of the image.
        like: Gives device and type of the result.
    """
    diagonal = (aspect**2 + 1) ** 0.5
    steps = torch.arange(channels // 4, dtype=torch.float64)
    frequencies = CODE_BASE ** (-steps / (channels // 4))

    def codes(count: int, extent: float) -> Float[Tensor, "count _"]:
        last = extent * (count - 1) / count
        angles = torch.linspace(-last, last, count, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    rows, columns = size
    across = codes(columns, aspect / diagonal).T[:, None].expand(-1, rows, -1)
    down = codes(rows, 1 / diagonal).T[:, :, None].expand(-1, -1, columns)
    return torch.cat([across, down]).to(device=like.device, dtype=like.dtype)


def add_plane_codes(x: Float[Tensor, "n C h w"], aspect: float) -> Float[Tensor, "n C h w"]:
    """Add a tenth of the codes of its places to a feature map, in place.

    In place: at full size, writing a new map costs as much as a layer.
    """
    rows, columns = x.shape[-2:]
    return x.add_(plane_codes((rows, columns), x.shape[1], aspect, like=x), alpha=CODE_WEIGHT)


class Reassemble(nn.Module):
    """Four layers of tokens as maps of four resolutions with one number of channels.

    Args:
        width: Channels of a token.
        features: Channels of the maps.
        layer_widths: Channels of each layer after its 1x1 convolution.
    """

    def __init__(self, width: int, *, features: int, layer_widths: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.project = nn.ModuleList(nn.Conv2d(width, inner, 1) for inner in layer_widths)
        self.resize = resizing_layers(layer_widths)
        self.reduce = nn.ModuleList(
            nn.Conv2d(inner, features, 3, padding=1, bias=False) for inner in layer_widths
        )

    def forward(
        self, taps: Sequence[Float[Tensor, "n P D"]], grid: tuple[int, int], aspect: float
    ) -> list[Float[Tensor, "n F _ _"]]:
        """Maps from the finest (four times the grid of patches) to the coarsest (half of it).

        Args:
            taps: Tokens of four layers, patches in row-major order.
            grid: Rows and columns of patches.
            aspect: Width over height of the image.
        """
        maps = []
        for tokens, project, resize, reduce in zip(
            taps, self.project, self.resize, self.reduce, strict=True
        ):
            assert isinstance(project, nn.Conv2d)
            x = self.norm(tokens).unflatten(1, grid).permute(0, 3, 1, 2)  # (n, D, h, w)
            maps.append(reduce(resize(add_plane_codes(pointwise(x, project), aspect))))
        return maps


class ResizedStage(RefinementStage):
    """Merge a finer map into the coarser ones, and resize the result."""

    def forward(
        self,
        x: Float[Tensor, "n F h w"],
        finer: Float[Tensor, "n F h w"] | None,
        size: tuple[int, int],
    ) -> Float[Tensor, "n F _ _"]:
        """The merged map at `size`.

        Args:
            x: The coarser maps, merged and resized.
            finer: The map that is merged into them; None for the coarsest stage.
            size: Rows and columns of the result.
        """
        # A 1x1 convolution commutes with the interpolation, and is cheaper before it.
        return upsample(pointwise(self.merge(x, finer), self.mix), size)


class RefinementChain(nn.Module):
    """Merge the maps of a pyramid from the coarsest to the finest.

    Args:
        features: Channels.
        rectified: See `ResidualUnit`.
    """

    def __init__(self, features: int, *, rectified: bool = False) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            ResizedStage(features, skip=index < 3, rectified=rectified) for index in range(4)
        )

    def forward(self, maps: Sequence[Float[Tensor, "n F _ _"]]) -> Float[Tensor, "n F _ _"]:
        """One map of twice the finest one's size."""
        *finer, x = maps
        sizes = [(x.shape[-2], x.shape[-1]) for x in finer]
        *stages, coarsest = self.stages
        x = coarsest(x, None, sizes[-1])
        for index in reversed(range(len(finer))):
            size = sizes[index - 1] if index else doubled(finer[0])
            x = stages[index](x, finer[index], size)
        return x


class PlaneHead(nn.Module):
    """From four layers of tokens to a map of `channels` numbers per pixel.

    Args:
        width: Channels of a token.
        channels: Numbers per pixel.
        patch_size: Pixels along a patch.
        features: Channels of the merged maps.
        layer_widths: See `Reassemble`.
        rectified: See `ResidualUnit`.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        *,
        patch_size: int,
        features: int,
        layer_widths: Sequence[int],
        rectified: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.pyramid = Reassemble(width, features=features, layer_widths=layer_widths)
        self.chain = RefinementChain(features, rectified=rectified)
        self.tail = PlaneTail(features, channels)

    def forward(
        self, taps: Sequence[Float[Tensor, "n P D"]], grid: tuple[int, int]
    ) -> Float[Tensor, "n _ H W"]:
        """The raw map, before any activation.

        Args:
            taps: Tokens of four layers, patches in row-major order.
            grid: Rows and columns of patches.
        """
        size = (self.patch_size * grid[0], self.patch_size * grid[1])
        aspect = size[1] / size[0]
        return self.tail(self.chain(self.pyramid(taps, grid, aspect)), size)


class PlaneTail(nn.Module):
    """The last convolutions of a head, at the size of the image.

    Args:
        features: Channels of the merged maps.
        channels: Numbers per pixel.
        hidden: Channels before the last convolution.
    """

    def __init__(self, features: int, channels: int, *, hidden: int = 32) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(features, features // 2, 3, padding=1)
        self.refine = nn.Conv2d(features // 2, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, channels, 1)

    def forward(
        self, merged: Float[Tensor, "n F h w"], size: tuple[int, int]
    ) -> Float[Tensor, "n _ H W"]:
        """The raw map at `size` rows and columns."""
        x = add_plane_codes(upsample(self.narrow(merged), size), size[1] / size[0])
        return pointwise(relu(self.refine(x)), self.out)
