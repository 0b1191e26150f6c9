"""Checks of held-out samples, which later reconstructions of a student are compared with."""

from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT
from distill3r_core.models.feature_statistics import FeatureStatistics


@dataclass(frozen=True, config=STRICT)
class ReliabilityCalibration:
    """Checks of reconstructions of held-out samples, and their errors against the teacher.

    Every value is the worst over windows of 2 to all views, dense and sparse, of these samples;
    novelty over windows of neighbors in the training samples too.

    Args:
        windows: Number of reconstructions.
        misfit: See `MapChecks`; so is spread.
        agreement: The smallest; see `MapChecks`. None: no window had two views.
        novelty: Distance of images from the training images in the encoder's features, in standard
            deviations. None: the student's family gives no features.
        features: Statistics of the encoder's features over training images.
        depth_error: Median relative error of depth after the best scale of each view; the median
            over the windows.
        constant_error: The same of a constant depth.
        rotation_error: Median error of relative rotations, in degrees; the median over the windows.
        scale_error: Relative error of lengths in the world: of the median over a window's views of
            the ratio of distances to the camera; the median over the windows. None: the student
            is not metric.
    """

    windows: int
    misfit: float | None
    spread: float | None
    agreement: float | None
    novelty: float | None
    features: FeatureStatistics | None
    depth_error: float
    constant_error: float
    rotation_error: float | None
    scale_error: float | None = None
