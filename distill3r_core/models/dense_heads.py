"""The spec of dense prediction heads, and the heads themselves."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.spec import Channels
from distill3r_core.nn.dpt import DPTHead


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DptSpec:
    """The two dense prediction heads.

    Args:
        kind: Tag of this kind of heads: DPT (arXiv:2103.13413).
        layers: Channels of the four layers before they are merged.
        initial_depth: The z at which an untrained student puts its points; None: at the origin.
        spare_parameters: Keep those that released checkpoints carry and no forward pass reads.
    """

    kind: Literal["dpt"] = "dpt"
    features: Channels
    layers: tuple[Channels, Channels, Channels, Channels]
    tail: Channels
    initial_depth: float | None = None
    spare_parameters: bool = False

    def build(self, widths: Sequence[int], *, patch: int) -> DPTHead:
        """Build one head with random weights.

        Args:
            widths: Channels of the tokens of the four layers that it reads.
            patch: Pixels along a patch.
        """
        head = DPTHead(
            widths,
            patch_size=patch,
            features=self.features,
            layer_widths=self.layers,
            tail_width=self.tail,
            spare_unit=self.spare_parameters,
        )
        if self.initial_depth is not None:
            assert head.out.bias is not None
            with torch.no_grad():  # a point's distance is exp(|v|) - 1
                bias = [0.0, 0.0, math.log1p(self.initial_depth), 0.0]
                head.out.bias.copy_(torch.tensor(bias))
        return head
