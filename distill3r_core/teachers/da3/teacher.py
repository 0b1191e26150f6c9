"""The teachers `da3-small`, `da3-base` and `da3-large`, native, on their official weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from distill3r_core import config
from distill3r_core.errors import GeometryError, RequestError
from distill3r_core.geometry.cameras import invert_rigid, unproject
from distill3r_core.geometry.similarity import fit_similarity, scale_of
from distill3r_core.io.images.teacher_fit import DA3_FIT
from distill3r_core.io.published_weights import PublishedWeights, spatial_bench
from distill3r_core.nn.dino import normalize
from distill3r_core.prediction import StepCallback
from distill3r_core.teachers.da3.backbone import DA3Size
from distill3r_core.teachers.da3.cost import BASE, LARGE, SMALL, cost_of
from distill3r_core.teachers.da3.given_cameras import normalize_cameras, predicted_from_given
from distill3r_core.teachers.da3.names import NAMES, read_state, size_of
from distill3r_core.teachers.da3.network import DA3
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
from distill3r_core.types import PreparedView
from distill3r_core.views import METERS

FILES = ("model.safetensors",)
APACHE, NONCOMMERCIAL = "Apache-2.0", "CC BY-NC 4.0"


@checked_dataclass(frozen=True, config=config.STRICT)
class DA3Settings:
    """Settings of the teachers of Depth Anything 3.

    Args:
        precision: Precision of the backbone. "auto" is bfloat16 on a GPU, float32 elsewhere; the
            heads are in float32 always.
        cameras: Whether cameras are predicted, or the views' own are given to the network; its
            depth is then in meters, or in their unit where that is not known.
    """

    precision: Precision = "auto"
    cameras: Literal["predicted", "given"] = "predicted"


class DA3Scene:
    """The network, and its outputs as maps of one sample. The first view is the reference.

    Args:
        network: In evaluation mode, on its device.
        given: Take the cameras of the views instead of predicting them.
    """

    def __init__(self, network: DA3, *, given: bool = False) -> None:
        self.network, self.given = network, given

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.network.camera_decoder.first.weight.device

    @property
    def size(self) -> DA3Size:
        """What distinguishes the network from others of its kind."""
        return self.network.size

    def run(
        self,
        images: Float[Tensor, "N 3 H W"],
        views: Sequence[PreparedView],
        on_progress: StepCallback,
    ) -> SceneMaps:
        """Depth times ray, and poses; see `SceneNetwork`.

        Raises:
            RequestError: Cameras are to be given, and views have none.
            GeometryError: The given cameras do not determine a scale.
        """
        normalized = normalize(images)[None]
        if not self.given:
            found = self.network(normalized, on_progress=on_progress)
            world_from_cam, intrinsics = found.cameras()
            points = unproject(found.depth[0], intrinsics[0])
            last = world_from_cam.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(points), 1, 4)
            poses = torch.cat([world_from_cam[0], last], dim=1)
            return SceneMaps(points, found.confidence[0], poses, intrinsics=intrinsics[0])
        poses, known = self._given(views)
        centers = poses[:, :3, 3]
        with _named(views[0].sample, "its cameras"):  # before the pass, which takes long
            fit_similarity(centers, centers)
        normal = invert_rigid(normalize_cameras(invert_rigid(poses)))[None]
        found = self.network(
            normalized,
            world_from_cam=normal.float().to(self.device),
            intrinsics=known[None].to(self.device),
            on_progress=on_progress,
        )
        predicted = found.cameras()[0][0, :, :, 3].double().cpu()
        with _named(views[0].sample, "the cameras that the network predicts"):
            scale = float(scale_of(predicted_from_given(centers, predicted)))
        points = unproject(found.depth[0] / scale, known.to(self.device))
        return SceneMaps(points, found.confidence[0], poses, intrinsics=known)

    @staticmethod
    def _given(
        views: Sequence[PreparedView],
    ) -> tuple[Float[Tensor, "N 4 4"], Float[Tensor, "N 3 3"]]:
        poses = [view.world_from_cam for view in views]
        intrinsics = [view.intrinsics for view in views]
        if any(value is None for value in (*poses, *intrinsics)):
            raise RequestError(
                f"sample {views[0].sample!r} has views without a pose or a calibrated K",
                hint="--set teacher.cameras=predicted needs neither",
            )
        world_from_cam = torch.stack([pose for pose in poses if pose is not None]).double()
        for view, pose in zip(views, world_from_cam, strict=True):
            pose[:3, 3] *= METERS[view.unit]
        return world_from_cam, torch.stack([k for k in intrinsics if k is not None])


@contextmanager
def _named(sample: str, cameras: str) -> Iterator[None]:
    """Say of which sample cameras determine no similarity, and what to do.

    Raises:
        GeometryError: They determine none.
    """
    try:
        yield
    except GeometryError as error:
        raise GeometryError(
            f"{cameras} do not determine the scale of the depth of {sample!r}: {error} (at least "
            "three views that are not on one line are needed; with --set teacher.cameras=predicted "
            "none are)"
        ) from error


def load_da3(weights: Path, device: torch.device) -> DA3:
    """The network of a hub folder or a file; the shapes of its tensors give its size.

    Raises:
        WeightsError: A file is missing, damaged or not one of Depth Anything 3.
    """
    file = find_weight_file(weights, FILES)
    state = read_state(read_checkpoint(file, device)[0])
    try:
        size = size_of(state)
    except KeyError as error:
        raise refuse_foreign_weights(file, "Depth Anything 3", error) from error
    network = fill_network(state, lambda: DA3(size), NAMES, source=str(file))
    assert isinstance(network, DA3)
    return network


def _record(weights: PublishedWeights, size: DA3Size) -> TeacherRecord:
    def build(settings: Any, folder: Path | None, device: torch.device) -> MultiviewTeacher:
        assert folder is not None, "the record names weights"
        network = DA3Scene(load_da3(folder, device), given=settings.cameras == "given")
        return MultiviewTeacher(
            weights.name,
            (weights.license,),
            network,
            fit=DA3_FIT,
            settings=settings,
            cost=cost_of(size),
            weights=find_weight_file(folder, FILES),
            metric=network.given,
        )

    return TeacherRecord(
        name=weights.name,
        build=build,
        licenses=(weights.license,),
        settings=DA3Settings,
        weights=weights,
        fit=DA3_FIT,
        threshold=THRESHOLD,
        depth_maps=True,
        cost=cost_of(size),
    )


def _published(
    name: str, repo: str, parameters: int, license: str, figure: tuple[float, float]
) -> PublishedWeights:
    return PublishedWeights(
        name,
        FILES,
        round(4 * parameters / 1e6),
        license,
        repo=f"depth-anything/{repo}",
        commercial="yes" if license == APACHE else "no",
        parameters=parameters,
        figure=spatial_bench(*figure),
    )


DA3_SMALL = _record(_published("da3-small", "DA3-SMALL", 34_299_463, APACHE, (0.476, 0.191)), SMALL)
DA3_BASE = _record(_published("da3-base", "DA3-BASE", 135_366_599, APACHE, (0.566, 0.159)), BASE)
DA3_LARGE = _record(
    _published("da3-large", "DA3-LARGE-1.1", 410_941_767, NONCOMMERCIAL, (0.688, 0.128)), LARGE
)
