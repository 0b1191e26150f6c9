"""How far images are from those that a student was trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill3r_core.models import Student
from distill3r_core.models.feature_statistics import FeatureStatistics

_MAX_IMAGES = 32  # evenly spread: a median needs no more


def novelty_of(
    student: Student, images: Sequence[Tensor] | Tensor, statistics: FeatureStatistics
) -> float | None:
    """Median distance of images from the training images, in standard deviations.

    Args:
        images: RGB in [0, 1], (3, H, W) each; sizes may differ.
        statistics: Statistics of the training images.

    Returns:
        None for a family that gives no features.
    """
    chosen = np.linspace(0, len(images) - 1, min(_MAX_IMAGES, len(images))).round().astype(int)
    distances = []
    with torch.no_grad():
        for index in chosen:
            features = student.image_features(images[index][None].to(student.device))
            if features is None:
                return None
            distances.append(statistics.distances(features.cpu().numpy())[0])
    return float(np.median(distances))
