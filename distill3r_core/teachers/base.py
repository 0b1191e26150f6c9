"""The contract of a teacher, and the preparation of views that teachers share."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.io.images.teacher_fit import TeacherFit, prepare_image
from distill3r_core.prediction import Predictor
from distill3r_core.types import PreparedView, View


@runtime_checkable
class Teacher(Predictor, Protocol):
    """A predictor whose maps are stored in a teacher cache, for students to learn from.

    Attributes:
        weights_hash: BLAKE2b-128 of the weight file, in hexadecimal; None where there is none.
        threshold: Threshold on `confidence_local - 1`: pixels at or below it are invalid. None:
            the teacher's own mask decides.
        fit: How images become the teacher's input.
        settings: Everything else that decides the predictions, as plain data: caches of different
            settings do not mix.
    """

    @property
    def weights_hash(self) -> str | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def fit(self) -> TeacherFit: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


@runtime_checkable
class FeatureTeacher(Protocol):
    """A teacher whose encoder's features a student can learn from.

    Attributes:
        feature_channels: Channels of each layer that it gives, by the layer's name.
    """

    @property
    def feature_channels(self) -> Mapping[str, int]: ...

    def encode_features(
        self, images: Float[Tensor, "B N 3 H W"], layer: str
    ) -> Float[Tensor, "B N h w C"]:
        """Features of a layer for images in [0, 1] as a student sees them, one per patch."""
        ...


def at_patch_multiples(
    images: Float[Tensor, "n 3 H W"], patch: int
) -> tuple[Float[Tensor, "n 3 _h _w"], tuple[int, int]]:
    """Images whose sides are multiples of a patch, the nearest ones, and their rows and columns."""
    rows, columns = (max(1, round(side / patch)) for side in images.shape[-2:])
    size = (patch * rows, patch * columns)
    if images.shape[-2:] != size:
        images = interpolate(images, size, mode="bilinear", antialias=True)
    return images, (rows, columns)


def prepare_view(view: View, fit: TeacherFit = TeacherFit()) -> PreparedView:
    """Bring a view's image, depth and intrinsics to a teacher's input size.

    Args:
        view: Upright.
        fit: How the teacher takes images; by default at their own size.

    Raises:
        ImageError: Nothing is left of the image after the crop.
    """
    image, placement = prepare_image(view.image, fit)
    depth, intrinsics, pose = (
        None if value is None else torch.from_numpy(value.astype("float32"))
        for value in (view.depth, view.intrinsics, view.world_from_cam)
    )
    return PreparedView(
        image=torch.from_numpy(image).movedim(-1, 0).contiguous().float() / 255,
        placement=placement,
        intrinsics=None if intrinsics is None else place_intrinsics(intrinsics, placement),
        depth=None if depth is None else resample_nearest(depth, placement.box, placement.size),
        world_from_cam=pose,
        unit=view.unit,
        sample=view.sample,
        index=view.index,
    )
