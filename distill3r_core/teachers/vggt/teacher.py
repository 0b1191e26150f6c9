"""The teacher `vggt`, native, on its official weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from distill3r_core import config
from distill3r_core.geometry.cameras import invert_rigid, unproject
from distill3r_core.geometry.pose_vectors import split_pose_vector
from distill3r_core.io.images.teacher_fit import VGGT_FIT
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
from distill3r_core.teachers.record import TeacherRecord
from distill3r_core.teachers.vggt.cost import COST
from distill3r_core.teachers.vggt.names import NAMES, read_state, size_of
from distill3r_core.teachers.vggt.network import VGGT, VGGTSize
from distill3r_core.types import PreparedView

FILES = ("model.safetensors", "model.pt", "vggt_1B_commercial.pt")
# VGGT-1B-Commercial has the same names and shapes: which one a file is, it does not say.
LICENSE = "CC BY-NC 4.0"


@checked_dataclass(frozen=True, config=config.STRICT)
class VGGTSettings:
    """Settings of the teacher `vggt`.

    Args:
        precision: Precision of the aggregator. "auto" is bfloat16 on a GPU, float32 elsewhere; the
            heads are in float32 always.
        point_map: Where global points come from: "depth" moves depth by the predicted cameras, as
            its authors recommend; "own" is the map of the point head.
    """

    precision: Precision = "auto"
    point_map: Literal["depth", "own"] = "depth"


class VGGTScene:
    """The network, and its outputs as maps of one sample.

    Args:
        network: In evaluation mode, on its device.
    """

    def __init__(self, network: VGGT) -> None:
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.network.camera_head.out.weight.device

    @property
    def size(self) -> VGGTSize:
        """What distinguishes the network from others of its kind."""
        return self.network.size

    def run(
        self,
        images: Float[Tensor, "N 3 H W"],
        views: Sequence[PreparedView],
        on_progress: StepCallback,
    ) -> SceneMaps:
        """Depth times ray, and poses; see `SceneNetwork`."""
        own = self.network.point_head is not None
        found = self.network(images[None], points=own, on_progress=on_progress)
        height, width = images.shape[-2:]
        cam_from_world, intrinsics = split_pose_vector(found.poses[0], (height, width))
        rows = torch.eye(4, dtype=cam_from_world.dtype, device=self.device)
        whole = rows.repeat(len(images), 1, 1)
        whole[:, :3] = cam_from_world
        return SceneMaps(
            points_local=unproject(found.depth[0], intrinsics),
            confidence=found.depth_confidence[0],
            world_from_cam=invert_rigid(whole),
            points_world=None if found.points is None else found.points[0],
            intrinsics=intrinsics,
        )


def load_vggt(weights: Path, device: torch.device, *, points: bool) -> VGGT:
    """The network of a hub folder or a file; the shapes of its tensors give its size.

    Args:
        weights: Folder or file.
        device: Where it runs.
        points: Whether it keeps the point head.

    Raises:
        WeightsError: A file is missing, damaged or not one of VGGT.
    """
    file = find_weight_file(weights, FILES)
    state = read_state(read_checkpoint(file, device)[0], points=points)
    try:
        size = size_of(state)
    except KeyError as error:
        raise refuse_foreign_weights(file, "VGGT", error) from error
    network = fill_network(state, lambda: VGGT(size, points=points), NAMES, source=str(file))
    assert isinstance(network, VGGT)
    return network


def _build(settings: VGGTSettings, weights: Path | None, device: torch.device) -> MultiviewTeacher:
    assert weights is not None, "the record names weights"
    network = load_vggt(weights, device, points=settings.point_map == "own")
    return MultiviewTeacher(
        VGGT_1B.name,
        VGGT_1B.licenses,
        VGGTScene(network),
        fit=VGGT_1B.fit,
        settings=settings,
        cost=COST,
        weights=find_weight_file(weights, FILES),
    )


VGGT_1B = TeacherRecord(
    name="vggt",
    build=_build,
    licenses=(LICENSE,),
    settings=VGGTSettings,
    weights=PublishedWeights(
        "vggt",
        FILES[:1],
        5026,
        LICENSE,
        repo="facebook/VGGT-1B",
        commercial="no",
        parameters=1_256_537_516,
        figure=spatial_bench(0.700, 0.105),
        other_files=FILES[1:],
    ),
    fit=VGGT_FIT,
    threshold=THRESHOLD,
    depth_maps=True,
    cost=COST,
)
