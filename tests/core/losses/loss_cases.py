"""Random maps of a student and its teacher."""

from dataclasses import fields, replace
from typing import Any

import torch

from distill3r_core.types import PointMaps, TeacherTargets


def random_case(
    *, samples: int = 3, views: int = 2, seed: int = 0, valid: float = 0.7
) -> tuple[PointMaps, TeacherTargets]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*more: int) -> torch.Tensor:
        shape = (samples, views, 4, 5, *more)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    predicted = PointMaps(
        points_global=normal(3),
        points_local=normal(3),
        confidence_global=1 + normal().exp(),
        confidence_local=1 + normal().exp(),
    )
    mask = torch.rand(samples, views, 4, 5, generator=generator) < valid
    targets = TeacherTargets(
        points_local=normal(3),
        confidence_local=1 + normal().exp(),
        confidence_global=1 + normal().exp(),
        valid_mask=mask,
        global_from_local=torch.eye(3, 4, dtype=torch.float64).expand(samples, views, 3, 4),
        stored_points_global=normal(3),
    )
    return predicted, targets


def sample_of(maps: Any, number: int) -> Any:
    """Maps or targets of one sample of a batch, as a batch of one."""
    parts = {field.name: getattr(maps, field.name) for field in fields(maps)}
    return replace(
        maps, **{name: part[number, None] for name, part in parts.items() if part is not None}
    )
