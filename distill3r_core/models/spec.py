"""What a student is made of, as numbers that are stored with its weights."""

import math
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT, as_plain, validate
from distill3r_core.registry import Registry

RELEASED_ATTENTION_SCALE = math.sqrt(math.log(137) / math.log(20))
PATCH = 14  # pixels along a patch of every student

Encoder = Literal["dune_vits14", "dune_vitb14", "rotary"]
Normalization = Literal["unit", "imagenet"]
ViewCodes = Literal["sequential", "random"]
# A file's description is not trusted: a network of a million blocks would be built for hours.
Channels = Annotated[int, Field(gt=0, le=1 << 14)]
Count = Annotated[int, Field(gt=0, le=1 << 10)]


@dataclass(frozen=True, config=STRICT)
class StudentSpec:
    """Architecture, and the properties that belong to the weights rather than to a run.

    Args:
        encoder: DUNE's ViT (blocks from timm), or a plain one with rotary positions.
        encoder_width: Channels of a token.
        encoder_depth: Blocks.
        encoder_heads: Attention heads.
        position_grid: Rows of DUNE's square position table: 32 at 448 pixels, 24 at 336.
        stem: How patches become tokens in the plain encoder: one convolution, or a few.
        fusion_width: Channels of a token.
        fusion_depth: Blocks.
        fusion_heads: Attention heads.
        head_features: Channels of the merged maps of a head.
        head_layers: Channels of a head's four layers before they are merged.
        head_tail: Channels of a head at full resolution.
        initial_depth: Points of an untrained student lie at about this z; None: at the origin.
        spare_parameters: Keep those that released checkpoints carry and no forward pass reads.
        normalization: What the encoder is fed: "unit" is [-1, 1], "imagenet" is zero mean and
            unit deviation over ImageNet.
        attention_scale: Factor on the softmax scale of the fusion.
        view_codes: Numbers of the views while training; at inference they are sequential.
    """

    encoder: Encoder
    encoder_width: Channels
    encoder_depth: Count
    encoder_heads: Count
    fusion_width: Channels
    fusion_depth: Count
    fusion_heads: Count
    head_features: Channels
    head_layers: tuple[Channels, Channels, Channels, Channels]
    head_tail: Channels
    position_grid: Count = 32
    stem: Literal["patch", "convolutional"] = "patch"
    initial_depth: float | None = None
    spare_parameters: bool = False
    normalization: Normalization = "unit"
    attention_scale: float = 1.0
    view_codes: ViewCodes = "random"

    @model_validator(mode="after")
    def _check_heads(self) -> "StudentSpec":
        for part in ("encoder", "fusion"):
            width, heads = getattr(self, f"{part}_width"), getattr(self, f"{part}_heads")
            if width % heads:
                raise ValueError(f"{part}_width {width} is not a multiple of {heads} heads")
        return self

    def as_plain(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return as_plain(self)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "StudentSpec":
        """The spec that `as_plain` gave.

        Raises:
            ConfigError: Unknown names or values that do not fit.
        """
        return validate(cls, values, source="the student's architecture")


SPECS: Registry[StudentSpec] = Registry("student preset")
SPECS.add(
    "paper",  # Distill3R (arXiv 2602.00865), on a fresh DUNE encoder
    StudentSpec(
        encoder="dune_vits14",
        encoder_width=384,
        encoder_depth=12,
        encoder_heads=6,
        fusion_width=384,
        fusion_depth=6,
        fusion_heads=6,
        head_features=256,
        head_layers=(96, 192, 384, 768),
        head_tail=128,
        spare_parameters=True,
        normalization="imagenet",
    ),
)
SPECS.add(
    "small",
    StudentSpec(
        encoder="rotary",
        encoder_width=192,
        encoder_depth=6,
        encoder_heads=6,
        stem="convolutional",
        fusion_width=192,
        fusion_depth=4,
        fusion_heads=6,
        head_features=32,
        head_layers=(32, 48, 64, 64),
        head_tail=32,
        initial_depth=0.7,
    ),
)
SPECS.add(
    "tiny",
    StudentSpec(
        encoder="rotary",
        encoder_width=128,
        encoder_depth=4,
        encoder_heads=4,
        stem="convolutional",
        fusion_width=128,
        fusion_depth=2,
        fusion_heads=4,
        head_features=24,
        head_layers=(24, 48, 96, 96),
        head_tail=24,
        initial_depth=0.7,
    ),
)


def released(spec: StudentSpec) -> StudentSpec:
    """The same architecture with the properties of the weights that Distill3R released."""
    return replace(spec, normalization="unit", attention_scale=RELEASED_ATTENTION_SCALE)
