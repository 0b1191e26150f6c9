"""The teacher of RGB-D data: the sensor's depth and the known poses, as point maps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import InputMissingError
from distill3r_core.geometry.cameras import invert_rigid, unproject
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.teachers.base import prepare_view
from distill3r_core.teachers.record import TeacherNeeds, TeacherRecord
from distill3r_core.types import PreparedView, RawMaps, Unit, View
from distill3r_core.views import METERS

PLAIN_CONFIDENCE = 2.0  # where no unit says how far a point is, and how noisy its depth


class DepthTeacher:
    """Exact point maps from depth, intrinsics and poses; in meters where their unit is a length."""

    name = "depth"
    licenses = ("that of the data",)
    max_views = None
    weights_hash = None
    threshold = None
    fit = TeacherFit()
    metric = True
    settings: Mapping[str, Any] = MappingProxyType({})

    def prepare(self, view: View) -> PreparedView:
        """The view at its own size.

        Raises:
            InputMissingError: It lacks depth or a calibrated K.
        """
        found = (("depth", view.depth), ("a calibrated K", view.intrinsics))
        lacks = [name for name, value in found if value is None]
        if lacks:
            raise _lacking(view, " and ".join(lacks))
        return prepare_view(view)

    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """The sensor's points; valid where it measured a depth.

        Where no view has a pose they are local-only.

        Raises:
            InputMissingError: Some views have a pose and others do not.
        """
        unposed = [view for view in views if view.world_from_cam is None]
        if unposed and len(unposed) < len(views):
            raise _lacking(unposed[0], "a pose")
        poses, cameras, depths = [], [], []
        for done, view in enumerate(views):
            on_progress("views", done, len(views))
            assert view.depth is not None
            assert view.intrinsics is not None
            meters = METERS[view.unit]
            pose = torch.eye(4, dtype=torch.float64)
            if view.world_from_cam is not None:
                pose = view.world_from_cam.double()
                pose[:3, 3] *= meters
            poses.append(pose)
            cameras.append(view.intrinsics)
            depths.append(view.depth * meters)
        on_progress("views", len(views), len(views))
        unit: Unit = "none" if any(view.unit == "none" for view in views) else "m"
        maps = maps_of_depth(depths, torch.stack(cameras), torch.stack(poses), unit=unit)
        return replace(maps, local_only=bool(unposed))


def _lacking(view: View | PreparedView, what: str) -> InputMissingError:
    return InputMissingError(
        f"view {view.index} of {view.sample!r} lacks {what}, which the teacher 'depth' needs",
        hint="choose a teacher that needs images alone; --teacher auto finds one",
    )


DEPTH = TeacherRecord(
    name=DepthTeacher.name,
    build=lambda settings, weights, device: DepthTeacher(),
    licenses=DepthTeacher.licenses,
    needs=TeacherNeeds(depth=True, poses=True, poses_of_scenes=True, intrinsics=True),
    metric=True,
    depth_maps=True,
    confidence="1 + sigma(1 m) / sigma(z) of the sensor's noise sigma; 2 in no known unit",
)


def maps_of_depth(
    depths: Sequence[Float[Tensor, "_H _W"]],
    intrinsics: Float[Tensor, "N 3 3"],
    world_from_cam: Float[Tensor, "N 4 4"],
    *,
    unit: Unit,
) -> RawMaps:
    """Point maps that are right as far as depth, K and poses are.

    Args:
        depths: z in each camera's frame; 0, negative or not finite where unknown.
        intrinsics: K of each map, pixel centers at +0.5.
        world_from_cam: Pose of each camera, in the unit of `depths`.
        unit: "m", or "none" where lengths mean nothing.
    """
    masks: list[Bool[Tensor, "_H _W"]] = [depth.isfinite() & (depth > 0) for depth in depths]
    known = [torch.where(mask, depth, 0.0) for depth, mask in zip(depths, masks, strict=True)]
    confidence = [depth_confidence(depth, unit=unit) for depth in known]
    # In float64: a world far from its origin cancels here, before float32 can blur it.
    anchor_from_cam = invert_rigid(world_from_cam[:1].double()) @ world_from_cam.double()
    return RawMaps(
        points_local=[unproject(z, k) for z, k in zip(known, intrinsics, strict=True)],
        confidence_local=confidence,
        confidence_global=confidence,
        valid_mask=masks,
        global_from_local=anchor_from_cam[:, :3].float(),
        intrinsics=intrinsics,
    )


def depth_confidence(depth: Float[Tensor, "H W"], *, unit: Unit) -> Float[Tensor, "H W"]:
    """`1 + sigma(1 m) / sigma(z)`: 2 at a meter, and less the further away.

    The random error of a structured-light sensor grows with the square of the distance, sigma(z) =
    1.425e-3 z^2 in meters (Khoshelham and Elberink, Sensors 12, 2012, half a pixel of disparity);
    the constant cancels. 2 everywhere where the unit is not metric, 1 where depth is unknown (0).
    """
    known = depth > 0
    if unit == "none":
        return torch.where(known, PLAIN_CONFIDENCE, 1.0)
    return 1 + torch.where(known, depth.clamp(min=1e-6).pow(-2), 0.0)
