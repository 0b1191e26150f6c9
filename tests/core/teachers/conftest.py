import numpy as np
import pytest

from distill3r_core.types import View


@pytest.fixture
def views():
    """Three views of a sample: a flat wall at z = 2, the camera moving sideways."""
    generator = np.random.default_rng(0)
    made = []
    for index in range(3):
        pose = np.eye(4, dtype=np.float32)
        pose[0, 3] = 0.1 * index
        made.append(
            View(
                image=generator.integers(0, 255, (28, 42, 3), dtype=np.uint8),
                intrinsics=np.array([[40, 0, 21], [0, 40, 14], [0, 0, 1]], dtype=np.float32),
                depth=np.full((28, 42), 2, dtype=np.float32),
                world_from_cam=pose,
                unit="m",
                sample="rooms/one/000",
                index=index,
            )
        )
    return made
