"""The spec of a multiview student."""

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.dense_heads import DptSpec
from distill3r_core.models.encoders.dune import DuneSpec
from distill3r_core.models.encoders.rotary import RotarySpec
from distill3r_core.models.spec import (
    Channels,
    Count,
    Normalization,
    StudentSpec,
    require_divisible,
)

RELEASED_ATTENTION_SCALE = math.sqrt(math.log(137) / math.log(20))

ViewCodes = Literal["sequential", "random"]
MapSizes = Literal["auto", "free", "predicted"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FusionSpec:
    """The transformer over the tokens of all views."""

    kind: Literal["full"] = "full"  # tag of this kind of fusion: full self-attention over all views
    width: Channels
    depth: Count
    heads: Count

    @model_validator(mode="after")
    def _check_heads(self) -> "FusionSpec":
        require_divisible(self.width, self.heads)
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MultiviewSpec(StudentSpec):
    """An encoder for each view, a fusion of all views, two heads.

    Args:
        encoder: From the pixels of a view to its tokens.
        normalization: What the encoder is fed: "unit" is [-1, 1], "imagenet" is zero mean and
            unit deviation over ImageNet.
        view_codes: Numbers of the views while training; at inference they are sequential.
        map_size: "free": maps have the size that the heads give them. "predicted": a layer of its
            own says it, see `MapSize`; for students that learn meters. "auto": a training decides,
            "predicted" where it learns meters; built without one, it is "free".
    """

    family: Literal["multiview"] = "multiview"
    encoder: Annotated[DuneSpec | RotarySpec, Field(discriminator="kind")]
    fusion: FusionSpec  # from the tokens of each view to those that have seen all views
    heads: DptSpec
    normalization: Normalization = "unit"
    attention_scale: float = 1.0  # factor on the softmax scale of the fusion
    view_codes: ViewCodes = "random"
    map_size: MapSizes = "auto"

    def settled(self) -> "MultiviewSpec":
        """See `StudentSpec.settled`: whose size nothing decided has that of the heads."""
        return replace(self, map_size="free") if self.map_size == "auto" else self


def released(spec: MultiviewSpec) -> MultiviewSpec:
    """The same architecture with the properties of the weights that Distill3R released."""
    return replace(spec, normalization="unit", attention_scale=RELEASED_ATTENTION_SCALE)
