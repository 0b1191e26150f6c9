"""A colored point cloud."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Cloud:
    """Points with their colors."""

    points: Float[np.ndarray, "M 3"]  # in the world frame: OpenCV axes of the first view's camera
    colors: UInt8[np.ndarray, "M 3"]  # RGB

    def __len__(self) -> int:
        return len(self.points)
