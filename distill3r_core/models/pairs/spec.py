"""The spec of a pair student."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.dense_heads import DptSpec
from distill3r_core.models.encoders.croco import CrocoSpec
from distill3r_core.models.encoders.mobilenet import MobileNetSpec
from distill3r_core.models.encoders.vit import VitSpec
from distill3r_core.models.spec import (
    Channels,
    Count,
    Normalization,
    StudentSpec,
    require_divisible,
)

PATCH = 16  # pixels along a token of every encoder of this family
DESCRIPTOR_CHANNELS = 24  # of MASt3R
_QUARTERS = 4  # a head's channels turn in two halves of two


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PairDecoderSpec:
    """The two-branch decoder.

    Args:
        depth: Blocks of each branch; the heads read three different layers behind the first.
        heads: Attention heads; each has a multiple of four channels.
        mlp_ratio: Hidden channels of the MLPs over `width`.
    """

    width: Channels
    depth: Annotated[Count, Field(ge=2)]
    heads: Count
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] = 1.0

    @model_validator(mode="after")
    def _check_heads(self) -> "PairDecoderSpec":
        require_divisible(self.width, _QUARTERS * self.heads)
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PairSpec(StudentSpec):
    """An encoder for each view, an adapter, a decoder for each pair of views, two heads.

    Args:
        adapter: A 1x1 convolution and a norm between encoder and decoder, as the students of
            arXiv:2607.01851 have; without, the decoder reads the encoder, as in the teachers.
        descriptors: Keep the descriptor branches of MASt3R; no forward pass reads them.
        normalization: What the encoder is fed: "unit" is [-1, 1], "imagenet" is zero mean and
            unit deviation over ImageNet.
    """

    family: Literal["pairs"] = "pairs"
    encoder: Annotated[MobileNetSpec | VitSpec | CrocoSpec, Field(discriminator="kind")]
    decoder: PairDecoderSpec
    heads: DptSpec
    adapter: bool = True
    descriptors: bool = False
    normalization: Normalization = "unit"

    @property
    def token_width(self) -> int:
        """Channels of a token that the decoder and the heads are given."""
        return self.decoder.width if self.adapter else self.encoder.width
