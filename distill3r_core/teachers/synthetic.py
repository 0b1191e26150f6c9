"""A teacher that renders a made-up scene, whatever the images show: for tests and dry runs."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.scenes import arc, build_scene, pinhole, render_depth
from distill3r_core.teachers.base import prepare_view
from distill3r_core.teachers.depth import maps_of_depth
from distill3r_core.teachers.record import TeacherRecord
from distill3r_core.types import PreparedView, RawMaps, View


@dataclass(frozen=True, config=config.STRICT)
class SyntheticSettings:
    """Settings of the teacher `synthetic`."""

    seed: int = Field(default=0, ge=0)  # of the scenes, together with the sample's name


class SyntheticTeacher:
    """Exact maps of a procedural scene that the sample's name and `seed` choose.

    Right by construction, and not about the user's scene: for tests and dry runs.
    """

    name = "synthetic"
    licenses = ("Apache-2.0",)
    max_views = None
    weights_hash = None
    threshold = None
    fit = TeacherFit()
    metric = True

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    @property
    def settings(self) -> Mapping[str, Any]:
        """The seed of the scenes."""
        return {"seed": self.seed}

    def prepare(self, view: View) -> PreparedView:
        """The view at its own size."""
        return prepare_view(view)

    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """What cameras on an arc in the sample's room see, each at the size of its view."""
        # A CRC and not hash(): the same scene in every process.
        seed = zlib.crc32(f"{self.seed}/{views[0].sample}".encode())
        scene = build_scene(seed)
        poses = arc(scene, len(views), seed=seed)
        sizes = [(view.image.shape[1], view.image.shape[2]) for view in views]
        cameras = torch.stack([pinhole(size) for size in sizes])
        depths = []
        for pose, camera, size in zip(poses, cameras, sizes, strict=True):
            on_progress("rendering", len(depths), len(views))
            depths.append(render_depth(scene, pose, camera, size))
        on_progress("rendering", len(views), len(views))
        return maps_of_depth(depths, cameras, poses, unit="m")


SYNTHETIC = TeacherRecord(
    name=SyntheticTeacher.name,
    build=lambda settings, weights, device: SyntheticTeacher(seed=settings.seed),
    licenses=SyntheticTeacher.licenses,
    settings=SyntheticSettings,
    metric=True,
    depth_maps=True,
    simulated=True,
)
