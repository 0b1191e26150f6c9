"""The encoder of the pair teachers themselves: CroCo's ViT with rotary positions."""

from typing import ClassVar, Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.spec import Channels, Count, require_divisible
from distill3r_core.nn.encoder import PatchEmbed, RotaryEncoder


@dataclass(frozen=True, config=STRICT, kw_only=True)
class CrocoSpec:
    """A plain vision transformer on patches of 16 pixels, as DUSt3R's and MASt3R's."""

    patch: ClassVar[int] = 16

    kind: Literal["croco"]
    width: Channels
    depth: Count
    heads: Count

    @model_validator(mode="after")
    def _check_heads(self) -> "CrocoSpec":
        require_divisible(self.width, self.heads)
        return self

    def build(self) -> RotaryEncoder:
        """Build the encoder with random weights."""
        return RotaryEncoder(
            PatchEmbed(self.patch, self.width),
            width=self.width,
            depth=self.depth,
            heads=self.heads,
        )
