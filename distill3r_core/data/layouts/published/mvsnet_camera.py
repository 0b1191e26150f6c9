"""Camera files of MVSNet: `extrinsic`, 4x4 camera-from-world, `intrinsic`, 3x3, depth range."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.matrix_files import with_centers_at_half
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.untrusted.printable import reason_of

_MOST_BYTES = 1 << 16


def read_mvsnet_camera(
    path: Path,
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    """cam_from_world and K, pixel centers at +0.5 (the file has them at integers).

    Raises:
        ImageError: The file is missing or damaged. The message is the reason alone.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ImageError(f"camera cannot be read: {path.name} is too large")
        words = read_text_file(path).split()
    except FileNotFoundError as error:
        raise ImageError(f"camera is missing: no {path.name}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"camera cannot be read: {reason_of(error)}") from error
    if len(words) < 27 or words[0] != "extrinsic" or words[17] != "intrinsic":
        raise ImageError(f"{path.name} has no extrinsic and intrinsic")
    try:
        pose = np.array([float(word) for word in words[1:17]]).reshape(4, 4)
        k = np.array([float(word) for word in words[18:27]]).reshape(3, 3)
    except ValueError as error:
        raise ImageError(f"{path.name}: {reason_of(error)}") from error
    return pose, with_centers_at_half(k)
