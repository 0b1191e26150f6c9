"""Mean and principal axes of an encoder's features: the distance of images to those of training."""

import base64
from functools import cached_property
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT

_MAX_AXES = 128  # 200 kB in a file for 384 channels
_PATCHES_PER_AXIS = 10  # fewer do not determine a variance
_MIN_VARIANCE = 1e-6  # of the largest: below it lies the rounding of float32


@dataclass(frozen=True, config=STRICT)
class FeatureStatistics:
    """Mean and principal axes of patch features, as text that fits a file's header.

    Args:
        channels: Number of channels D of a feature.
        mean: D float32 numbers, little-endian, in base64.
        axes: k x D float32 numbers likewise: principal axes, each divided by the standard
            deviation along it.
    """

    channels: Annotated[int, Field(gt=0)]
    mean: str = Field(repr=False)
    axes: str = Field(repr=False)

    @cached_property
    def _mean(self) -> Float[np.ndarray, "D"]:
        return _decode(self.mean)

    @cached_property
    def _axes(self) -> Float[np.ndarray, "k D"]:
        return _decode(self.axes).reshape(-1, self.channels)

    def distances(self, features: Float[np.ndarray, "n P D"]) -> Float[np.ndarray, "n"]:
        """Distance of each image from the training images, in standard deviations.

        The root mean square over patches and principal axes (Mahalanobis' distance by the square
        root of the number of axes): 1 on average for the training images themselves.
        """
        whitened = (features.astype(np.float64) - self._mean) @ self._axes.T
        return np.sqrt((whitened**2).mean((1, 2)))


def fit_features(features: Float[np.ndarray, "M D"]) -> FeatureStatistics | None:
    """Statistics of patch features; None where there are too few patches or they do not vary."""
    values = features.astype(np.float64)
    mean = values.mean(0)
    centered = values - mean
    variances, axes = np.linalg.eigh(centered.T @ centered / len(values))
    variances, axes = variances[::-1], axes.T[::-1]  # largest first
    count = min(_MAX_AXES, len(values) // _PATCHES_PER_AXIS, len(variances))
    if count == 0 or not np.isfinite(variances).all() or variances[0] <= 0:
        return None
    floor = np.maximum(variances[:count], _MIN_VARIANCE * variances[0])
    return FeatureStatistics(
        channels=len(mean),
        mean=_encode(mean),
        axes=_encode(axes[:count] / np.sqrt(floor)[:, None]),
    )


def _encode(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _decode(text: str) -> Float[np.ndarray, "_"]:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)
