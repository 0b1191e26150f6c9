"""What the tests of faults share: settings of a short run, a student that misbehaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill3r_core import config
from distill3r_core.models import load_student
from distill3r_core.models.families import train_presets
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.stages.train import TrainSettings

MakeCache = Callable[..., Path]


def settings_for(cache: Path, run: Path, *sets: str, **options: Any) -> TrainSettings:
    given = {"preset": "tiny", "cache": cache, "output": run, "max_steps": 4, **options}
    return config.resolve(
        TrainSettings, section="train", options=given, sets=sets, presets=train_presets()
    )


def patched_forward(monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    """Let `change(maps, images)` see, and alter, what the student says while it trains."""
    forward = MultiviewStudent.forward

    def changed(student: MultiviewStudent, images: Any, **options: Any) -> Any:
        maps = forward(student, images, **options)
        return change(maps, images) if student.training else maps

    monkeypatch.setattr(MultiviewStudent, "forward", changed)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_student(run / "checkpoints" / "last").state_dict()
