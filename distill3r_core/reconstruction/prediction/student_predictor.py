"""A student as a predictor, which can be run in place of any other model."""

from collections.abc import Sequence

import torch

from distill3r_core.errors import RequestError
from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.io.images.fit import ImageFit, fit_for, fit_image
from distill3r_core.models.families import family_of
from distill3r_core.models.student import Student
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.reconstruction.prediction.forward_pass import require_views, student_maps
from distill3r_core.reconstruction.prediction.scene_pass import knows_scene, scene_raw_maps
from distill3r_core.types import PreparedView, RawMaps, View


class StudentPredictor:
    """A student with the way in which images are fitted to its input.

    Args:
        student: In evaluation mode, on its device.
        fit: How images become its input; each keeps its own orientation.
    """

    def __init__(self, student: Student, fit: ImageFit, *, name: str = "student") -> None:
        self.student = student
        self.fit = fit
        self.name = name

    @property
    def metric(self) -> bool:
        """Whether its points are in meters: a property of the weights."""
        return self.student.metadata is not None and self.student.metadata.unit == "m"

    @property
    def max_views(self) -> int:
        """The number of views that students of its family can tell apart."""
        return family_of(self.student.spec).views.maximum

    @property
    def licenses(self) -> tuple[str, ...]:
        """Licenses of the student's teacher and encoder."""
        return () if self.student.metadata is None else self.student.metadata.licenses

    def prepare(self, view: View) -> PreparedView:
        """Fit an image to the student's input size.

        Raises:
            ImageError: Nothing is left of the image after the crop.
        """
        height, width, _ = view.image.shape
        fitted = fit_image(
            view.image, fit_for([(height, width)], self.fit), portrait=height > width
        )
        intrinsics = None
        if view.intrinsics is not None:
            given = torch.from_numpy(view.intrinsics)
            intrinsics = place_intrinsics(given, fitted.placement).float()
        return PreparedView(
            image=torch.from_numpy(fitted.image.copy()).movedim(-1, 0) / 255,
            placement=fitted.placement,
            intrinsics=intrinsics,
            unit=view.unit,
            sample=view.sample,
            index=view.index,
        )

    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """Maps of all views in one pass.

        Raises:
            RequestError: There are more views than the student can tell apart, or a view lacks the
                intrinsics by which a scene student's points place it.
        """
        require_views(self, len(views))
        if knows_scene(self.student):
            return self._in_scene(views)
        maps = student_maps(self.student, [view.image for view in views], on_progress=on_progress)
        points_local, confidence_local, points_global, confidence_global = [], [], [], []
        for one in maps:
            assert one.local_map is not None and one.global_map is not None
            points_local.append(torch.from_numpy(one.local_map.points))
            confidence_local.append(torch.from_numpy(one.local_map.confidence))
            points_global.append(torch.from_numpy(one.global_map.points))
            confidence_global.append(torch.from_numpy(one.global_map.confidence))
        return RawMaps(points_local, confidence_local, confidence_global, points_global)

    def _in_scene(self, views: Sequence[PreparedView]) -> RawMaps:
        intrinsics = [view.intrinsics for view in views if view.intrinsics is not None]
        if len(intrinsics) < len(views):
            raise RequestError(
                f"{self.name} places views by their intrinsics, and one has none",
                hint="give calibrated views, or take `reconstruct`, which finds a focal length",
            )
        images = torch.stack([view.image for view in views])[None]
        with torch.inference_mode():
            found = self.student(images.to(self.student.device), host=True)
        return scene_raw_maps(self.student, found, torch.stack(intrinsics))
