"""Matrices in text files: poses and intrinsics."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import ImageError


def read_matrix(path: Path, side: int, *, what: str) -> Float[np.ndarray, "n n"]:
    """A square matrix out of a text file, separated by any white space.

    Raises:
        ImageError: Missing, or not so many finite numbers.
    """
    try:
        words = path.read_text(encoding="utf-8").split()
    except FileNotFoundError as error:
        raise ImageError(f"{what} is missing: no {path.name}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{what} cannot be read: {error}") from error
    if len(words) != side * side:
        raise ImageError(f"{what} has {len(words)} numbers, not {side * side}")
    numbers = [_number(word) for word in words]
    if not all(math.isfinite(number) for number in numbers):
        raise ImageError(f"{what} has numbers that are not finite")
    return np.array(numbers).reshape(side, side)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan  # Windows wrote -1.#INF, which is no number anywhere else
