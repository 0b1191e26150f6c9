"""The spec of a scene student."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.spec import (
    Channels,
    Count,
    Normalization,
    StudentSpec,
    require_divisible,
)

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MAX_SCENES = 1 << 10

Attention = Literal["patches", "none"]
Edges = Literal["pad", "drop"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SceneFrame:
    """How the coordinates of a scene are centered and scaled for the network.

    Args:
        name: Data set and scene, or the part of both that several sequences of it share.
        center: Mean of the training points, in the frame and unit of the scene.
        scale: Root mean square distance of the training points to it: the network's unit.
        metric: Whether the scene's unit is the meter.
        posed: Whether its frame is that of the data's own poses; else it is that of a camera.
    """

    name: str
    center: tuple[_Finite, _Finite, _Finite]
    scale: _Length
    metric: bool = False
    posed: bool = False


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ConvolutionalSpec:
    """Convolutions at full resolution; a pixel sees 21 pixels around it.

    Args:
        width: Channels of the widest layers.
    """

    kind: Literal["cnn"] = "cnn"
    width: Annotated[int, Field(ge=8, le=1 << 12, multiple_of=8)] = 512


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MobileSpec:
    """MobileNetV3-Large to stride 16, then one pixel shuffle to full resolution.

    Args:
        channels: Numbers that the shuffle gives each pixel; 1 as released.
    """

    kind: Literal["mobilenet"] = "mobilenet"
    channels: Annotated[int, Field(gt=0, le=1 << 6)] = 1


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PatchSpec:
    """A transformer over the patches of an image.

    Args:
        patch: Pixels along a patch.
        head_width: Channels of the layers that work on each pixel.
        attention: "patches" attend to each other. "none": each is mapped by itself, as the
            released code computes a single image.
        edges: Of sides that are no multiple of the patch. "pad" repeats the last pixels; "drop"
            leaves the rest unseen and stretches the output over it, as released.
        positions: Deviation of the random positions at the start; 1 as released.
    """

    kind: Literal["vit"] = "vit"
    patch: Annotated[int, Field(gt=0, le=1 << 8)] = 16
    width: Channels = 256
    depth: Count = 12
    heads: Count = 8
    head_width: Channels = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    attention: Attention = "patches"
    edges: Edges = "pad"
    positions: Annotated[float, Field(gt=0, le=10)] = 0.02

    @model_validator(mode="after")
    def _check_heads(self) -> "PatchSpec":
        require_divisible(self.width, self.heads)
        return self


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SceneSpec(StudentSpec):
    """A network for one image, and the scenes that it knows.

    Args:
        normalization: What the network is fed: "unit" is [-1, 1], "imagenet" is zero mean and unit
            deviation over ImageNet.
        scenes: In the order of their places in the network's frame; empty before training.
    """

    family: Literal["scene"] = "scene"
    network: Annotated[ConvolutionalSpec | MobileSpec | PatchSpec, Field(discriminator="kind")]
    normalization: Normalization = "unit"
    scenes: Annotated[tuple[SceneFrame, ...], Field(max_length=MAX_SCENES)] = ()
