"""Images whose quarters have known colors, and the manifest that is made of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from distill3r_core.data.manifest import Manifest, read_manifest

# Upright, the pattern is red, green / blue, yellow.
QUADRANTS = ((220, 40, 40), (40, 200, 40), (40, 60, 220), (230, 220, 60))
GRID = 28 * 42  # pixels of a view of the tests' student


def quadrants(pixels: np.ndarray) -> np.ndarray:
    """Colors in the middle of the four quarters, row by row."""
    height, width, _ = pixels.shape
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    return np.array([pixels[row, column] for row in rows for column in columns], int)


def pattern(turned: int = 0) -> np.ndarray:
    """The pattern at 48x80, as it is stored for an EXIF orientation."""
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[:24, :40], pixels[:24, 40:], pixels[24:, :40], pixels[24:, 40:] = QUADRANTS
    stored = {
        2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1), 7: pixels[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(pixels, -1),
    }  # fmt: skip
    return np.ascontiguousarray(stored.get(turned, pixels))


def make_manifest(cli_inprocess, cwd: Path, *roots: Path | str, status: int = 0, views: int = 2):
    """The manifest of some roots, in which every frame is kept, and what was printed beside it."""
    arguments = ("--views", str(views), "--stride", "1", "--val-scenes", "0")
    more = ("--samples-per-scene", "99", "--set", "video_fps=100")
    found, _, err = cli_inprocess("manifest", *roots, *arguments, *more, cwd=cwd)
    assert found == status, err
    return read_manifest(cwd / "data/manifest.csv"), err


def pixels_of(manifest: Manifest) -> dict[str, np.ndarray]:
    """Images of a manifest by `scene/frame`."""
    return {
        f"{row.scene_id}/{Path(row.image_path).stem}": np.asarray(
            Image.open(manifest.root / row.image_path)
        )
        for row in manifest.rows
    }
