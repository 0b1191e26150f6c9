"""Readers of the depth files that data sets come with.

A reader takes a path and returns the stored numbers, unscaled. It raises `ImageError` with the
reason alone where the file cannot be read.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from distill3r_core.io.images.depth import read_png16
from distill3r_core.registry import Registry

DEPTH_CODECS: Registry[Callable[[Path], Shaped[np.ndarray, "H W"]]] = Registry("depth codec")
DEPTH_CODECS.add("png16", read_png16)
