"""The spec of the small students' encoder: a ViT with rotary positions."""

from typing import ClassVar, Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.encoders.stem import STEM_WIDTH, ConvolutionalStem
from distill3r_core.models.spec import Channels, Count, require_divisible
from distill3r_core.nn.encoder import PatchEmbed, RotaryEncoder


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RotarySpec:
    """A plain vision transformer with rotary positions.

    Args:
        stem: How patches become tokens: by one convolution, or by a few.
    """

    patch: ClassVar[int] = 14
    extra_tokens: ClassVar[int] = 0

    kind: Literal["rotary"]
    width: Channels
    depth: Count
    heads: Count
    stem: Literal["patch", "convolutional"] = "patch"

    @model_validator(mode="after")
    def _check_heads(self) -> "RotarySpec":
        require_divisible(self.width, self.heads)
        return self

    @property
    def stem_width(self) -> int | None:
        """Channels of the convolutional stem at half the resolution; None: without one."""
        return STEM_WIDTH if self.stem == "convolutional" else None

    def build(self) -> RotaryEncoder:
        """Build the encoder with random weights."""
        convolutional = self.stem == "convolutional"
        embed = (
            ConvolutionalStem(self.width) if convolutional else PatchEmbed(self.patch, self.width)
        )
        return RotaryEncoder(embed, width=self.width, depth=self.depth, heads=self.heads)
