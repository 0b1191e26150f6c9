"""What a teacher is, and what they all do to a view before they look at it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.io.fit import Fit, prepare_picture
from distill3r_core.types import PreparedView, RawMaps, View


@runtime_checkable
class Teacher(Protocol):
    """A model, or a sensor, that says where the pixels of a sample lie.

    Attributes:
        name: The name it is built by.
        license: Of its weights; a student inherits it.
        weights_hash: BLAKE2b-128 of the weight file, in hexadecimal; None where there is none.
        threshold: Of `confidence_local - 1`: pixels at or below it do not count. None: the
            teacher's own mask says which do.
        long_edge: In pixels, of the picture as the teacher takes it; None: at its own size.
        multiple: Both sides are cropped to a multiple of this.
        metric: Points are in metres wherever the unit of the views is a length.
        settings: What else decides its answers, as plain data: caches of different settings do
            not mix.
    """

    @property
    def name(self) -> str: ...
    @property
    def license(self) -> str: ...
    @property
    def weights_hash(self) -> str | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def long_edge(self) -> int | None: ...
    @property
    def multiple(self) -> int: ...
    @property
    def metric(self) -> bool: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...

    def prepare(self, view: View) -> PreparedView:
        """The view at the teacher's input size."""
        ...

    def predict(self, views: Sequence[PreparedView]) -> RawMaps:
        """Maps of all views of one sample, seen at once, in the views' order, on the CPU."""
        ...


def prepare_view(view: View, *, long_edge: int | None = None, multiple: int = 1) -> PreparedView:
    """Resize and crop a view's picture, and move its depth and intrinsics with it.

    Args:
        view: Upright.
        long_edge: See `Teacher`.
        multiple: See `Teacher`.

    Raises:
        ImageError: Nothing is left of the picture after the crop.
    """
    height, width, _ = view.image.shape
    fit = Fit(size=(height, width), long_edge=long_edge, multiple=multiple)
    image, placement = prepare_picture(view.image, fit)
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
