"""Masks as their images are placed for a network."""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.views import ImagePlacement


def placed_mask(mask: Bool[np.ndarray, "H W"], placement: ImagePlacement) -> Bool[Tensor, "h w"]:
    """The mask of an image, as the image is placed for a network (nearest)."""
    values = torch.from_numpy(mask)
    if placement.transposed:
        left, top, right, bottom = placement.box
        return resample_nearest(values.T, (top, left, bottom, right), placement.size)
    return resample_nearest(values, placement.box, placement.size)
