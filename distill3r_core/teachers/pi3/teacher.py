"""The teacher `pi3`, native, on its official weights."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from distill3r_core import config
from distill3r_core.io.images.teacher_fit import PI3_FIT
from distill3r_core.io.published_weights import PublishedWeights, spatial_bench
from distill3r_core.prediction import StepCallback
from distill3r_core.teachers.multiview import (
    THRESHOLD,
    MultiviewTeacher,
    Precision,
    SceneMaps,
)
from distill3r_core.teachers.official_files import (
    fill_network,
    find_weight_file,
    read_checkpoint,
    refuse_foreign_weights,
)
from distill3r_core.teachers.pi3.cost import COST
from distill3r_core.teachers.pi3.names import NAMES, size_of
from distill3r_core.teachers.pi3.network import Pi3, Pi3Size
from distill3r_core.teachers.record import TeacherRecord
from distill3r_core.types import PreparedView

FILES = ("model.safetensors",)
LICENSE = "CC BY-NC 4.0"


@checked_dataclass(frozen=True, config=config.STRICT)
class Pi3Settings:
    """Settings of the teacher `pi3`.

    Args:
        precision: Precision of encoder, decoder and branches. "auto" is bfloat16 on a GPU, float32
            elsewhere; the last layers are in float32 always.
    """

    precision: Precision = "auto"


class Pi3Scene:
    """The network, and its outputs as maps of one sample.

    Args:
        network: In evaluation mode, on its device.
    """

    def __init__(self, network: Pi3) -> None:
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.network.point_head.weight.device

    @property
    def size(self) -> Pi3Size:
        """What distinguishes the network from others of its kind."""
        return self.network.size

    def run(
        self,
        images: Float[Tensor, "N 3 H W"],
        views: Sequence[PreparedView],
        on_progress: StepCallback,
    ) -> SceneMaps:
        """Local points and poses; see `SceneNetwork`.

        Its confidence is a probability p with a logit; `1 + exp(logit) = 1 + p / (1 - p)` brings
        it to the range of the other networks and keeps its order.
        """
        found = self.network(images[None], on_progress=on_progress)
        return SceneMaps(found.local_points[0], 1 + found.logits[0].exp(), found.world_from_cam[0])


def load_pi3(weights: Path, device: torch.device) -> Pi3:
    """The network of a hub folder or a file; the shapes of its tensors give its size.

    Raises:
        WeightsError: A file is missing, damaged or not one of Pi3.
    """
    file = find_weight_file(weights, FILES)
    state = read_checkpoint(file, device)[0]
    try:
        size = size_of(state)
    except KeyError as error:
        raise refuse_foreign_weights(file, "Pi3", error) from error
    network = fill_network(state, lambda: Pi3(size), NAMES, source=str(file))
    assert isinstance(network, Pi3)
    return network


def _build(settings: Pi3Settings, weights: Path | None, device: torch.device) -> MultiviewTeacher:
    assert weights is not None, "the record names weights"
    return MultiviewTeacher(
        PI3.name,
        PI3.licenses,
        Pi3Scene(load_pi3(weights, device)),
        fit=PI3.fit,
        settings=settings,
        cost=COST,
        weights=find_weight_file(weights, FILES),
    )


PI3 = TeacherRecord(
    name="pi3",
    build=_build,
    licenses=(LICENSE,),
    settings=Pi3Settings,
    weights=PublishedWeights(
        "pi3",
        FILES,
        3835,
        LICENSE,
        repo="yyfz233/Pi3",
        commercial="no",
        parameters=958_696_732,
        figure=spatial_bench(0.742, 0.092),
    ),
    fit=PI3_FIT,
    threshold=THRESHOLD,
    confidence="1 + p / (1 - p) of its probability p",
    cost=COST,
)
