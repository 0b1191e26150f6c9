"""From a preset or a spec to a student."""

from typing import Any

import torch
from torch import Tensor

from distill3r_core.models.families import family_of, preset_spec
from distill3r_core.models.presets import Preset
from distill3r_core.models.spec import StudentSpec
from distill3r_core.models.student import Student


def build_student(preset: str | Preset = "paper", **overrides: Any) -> Student:
    """Build a student with random weights.

    Args:
        overrides: Values of its spec that differ, nested like the spec: `fusion={"depth": 3}`.

    Raises:
        ConfigError: There is no such preset, or a field or value does not fit.
    """
    return build_from_spec(preset_spec(preset, overrides))


def build_from_spec(spec: StudentSpec) -> Student:
    """Build a student with random weights from its spec."""
    return family_of(spec).build(spec)


def expected_tensors(spec: StudentSpec) -> dict[str, Tensor]:
    """Names and shapes of a student's weights, without memory behind them."""
    with torch.device("meta"):
        return build_from_spec(spec).state_dict()
