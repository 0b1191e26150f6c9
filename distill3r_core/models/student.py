"""The contract of a student: views of a sample in, point maps out."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.spec import StudentSpec
from distill3r_core.nn.progress import ProgressCallback, Stretch, no_progress
from distill3r_core.types import Images, PointMaps

OneHead = Literal["global", "local"]
HeadName = Literal["both", "global", "local"]
Recompute = Literal["none", "heads", "all"]


class Student(nn.Module):
    """Base of the students of all families.

    A family's network has three public, differentiable steps, `encode`, `fuse` and `decode`, whose
    inputs and results are the family's choice; `forward` runs them one after the other.

    Args:
        spec: The architecture and the properties of the weights.
    """

    COMPILED: ClassVar[tuple[str, ...]] = ()  # submodules that torch.compile is worthwhile for
    # Submodules that have a loss of their own, whose gradient must not shorten that of the rest
    # where both are clipped together.
    APART: ClassVar[tuple[str, ...]] = ()

    def __init__(self, spec: StudentSpec) -> None:
        super().__init__()
        self.spec = spec
        self.metadata: StudentMetadata | None = None  # set where it was loaded from a file
        self.product_dtype = torch.float32  # type of matrix products; changed by `lower_precision`

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

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
        """Points and confidences for every pixel of every view.

        Args:
            images: RGB in [0, 1], sides multiples of what the family asks for. A list holds the
                views of one sample, which may differ in size.
            head: Maps to predict. Those of a head that is not run are None.
            head_chunk: Views that go through a head at once; None: what suits the device.
            view_numbers: Number of every view, for families that number views; None: the
                family's choice.
            recompute: What a backward pass computes again instead of keeping it.
            host: Return the maps on the host. Without gradients they go there by way of pinned
                memory.
            on_progress: Receives the progress of the pass.

        Returns:
            Maps with the axes of `images`; for a list, one entry per view, each (1, H, W, ...).

        Raises:
            RequestError: The family cannot take views of this size or number.
        """
        raise NotImplementedError

    def placed(self, maps: PointMaps) -> PointMaps:
        """The maps of a pass in the frame and unit in which results are given.

        Training compares them as the network gives them.
        """
        return maps

    def image_features(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n P D"] | None:
        """Features of each patch of each image, from the encoder alone, without gradients.

        Args:
            images: RGB in [0, 1], on any device.

        Returns:
            Features; None for a family in which images have none of their own.
        """
        return None

    def progress_totals(self, views: int, head: HeadName) -> dict[Stretch, tuple[int, str]]:
        """How many steps of progress a pass reports in each of its stretches, and their unit."""
        raise NotImplementedError

    def prepare_lower_precision(self, dtype: torch.dtype) -> None:
        """Prepare the layers for matrix products in `dtype`; see `lower_precision`."""

    def exact_layers(self) -> Iterator[nn.Module]:
        """Layers that stay in float32 when the precision of the others is lowered."""
        yield from ()
