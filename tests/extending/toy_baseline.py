"""A toy baseline: every pixel at distance 1 from its camera."""

import torch
from torch.nn.functional import normalize

from distill3r_core.extend import BASELINES, Baseline, maps_of


def predict_sphere(truth, training):
    rows, columns = truth.size
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    rays = pixels @ torch.linalg.inv(truth.intrinsics).mT[:, None]
    return maps_of(normalize(rays, dim=-1), truth)


BASELINES.add("sphere", Baseline("sphere around the camera", predict_sphere))
