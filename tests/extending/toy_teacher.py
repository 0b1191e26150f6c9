"""A toy teacher: every image is a flat wall, two units in front of a camera that never moves."""

import torch
from pydantic.dataclasses import dataclass

from distill3r_core.extend import (
    STRICT,
    TEACHERS,
    RawMaps,
    TeacherFit,
    TeacherRecord,
    ignore_steps,
    prepare_view,
)


@dataclass(frozen=True, config=STRICT)
class WallSettings:
    depth: float = 2.0


class WallTeacher:
    name = "wall"
    licenses = ("CC0",)
    metric = False
    max_views = None
    weights_hash = None
    threshold = None
    fit = TeacherFit()

    def __init__(self, depth):
        self.depth = depth
        self.settings = {"depth": depth}

    def prepare(self, view):
        return prepare_view(view, self.fit)

    def predict(self, views, *, on_progress=ignore_steps):
        points, confidence = [], []
        for view in views:
            height, width = view.image.shape[1:]
            rows = (torch.arange(height) + 0.5 - height / 2) / width
            columns = (torch.arange(width) + 0.5 - width / 2) / width
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            points.append(self.depth * torch.stack([x, y, torch.ones_like(x)], dim=-1))
            confidence.append(torch.full((height, width), 2.0))
        return RawMaps(
            points_local=points,
            confidence_local=confidence,
            confidence_global=confidence,
            global_from_local=torch.eye(3, 4).repeat(len(views), 1, 1),
        )


TEACHERS.add(
    WallTeacher.name,
    TeacherRecord(
        name=WallTeacher.name,
        build=lambda settings, weights, device: WallTeacher(settings.depth),
        licenses=WallTeacher.licenses,
        settings=WallSettings,
    ),
)
