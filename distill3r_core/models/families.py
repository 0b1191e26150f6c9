"""The student families there are."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PositiveInt

from distill3r_core.config import merge, read_size, validate
from distill3r_core.errors import ConfigError
from distill3r_core.models.family import CheckpointFormat, Family
from distill3r_core.models.multiview.family import MULTIVIEW
from distill3r_core.models.pairs.family import PAIRS
from distill3r_core.models.presets import PRESETS, Preset
from distill3r_core.models.scene.family import SCENE
from distill3r_core.models.spec import StudentSpec
from distill3r_core.problems import multiple_message
from distill3r_core.registry import Registry

__all__ = [
    "FAMILIES",
    "Family",
    "StudentSize",
    "check_size",
    "checkpoint_formats",
    "family_of",
    "parse_spec",
    "preset_spec",
    "size_of_some_student",
    "train_presets",
]

FAMILIES: Registry[Family] = Registry("student family", entry_points="distill3r.families")
FAMILIES.add(MULTIVIEW.name, MULTIVIEW)
FAMILIES.add(PAIRS.name, PAIRS)
FAMILIES.add(SCENE.name, SCENE)


def family_of(spec: StudentSpec) -> Family:
    """The family of a spec."""
    return FAMILIES[spec.family]


def checkpoint_formats() -> dict[str, CheckpointFormat]:
    """The formats of other projects that some family reads, by the suffix of their files."""
    formats = [one for name in FAMILIES for one in FAMILIES[name].checkpoints]
    return {suffix: one for one in reversed(formats) for suffix in one.suffixes}


def check_size(spec: StudentSpec, size: tuple[int, int], *, setting: str = "--size") -> None:
    """Check that a student takes views of a size.

    Args:
        setting: Where another size can be asked for.

    Raises:
        ConfigError: A side is not a multiple of what its family asks for.
    """
    step = family_of(spec).multiple(spec)
    if any(side % step for side in size):
        raise ConfigError(f"{setting}: {multiple_message(size, step)}")


def size_of_some_student(size: tuple[int, int]) -> tuple[int, int]:
    """Pydantic validator: a size that some preset's student takes; `check_size` knows the model."""
    # Students that take any size leave the check to the others: a cache is for all of them.
    steps = {family_of(spec).multiple(spec) for spec in map(preset_spec, PRESETS)} - {1}
    if all(math.gcd(*size) % step for step in steps):
        raise ValueError(multiple_message(size, min(steps)))
    return size


# Rows and columns, or HxW. `check_size` checks again once the student is known.
StudentSize = Annotated[
    tuple[PositiveInt, PositiveInt],
    BeforeValidator(read_size),
    AfterValidator(size_of_some_student),
]


def parse_spec(values: Mapping[str, Any], *, within: str = "") -> StudentSpec:
    """The spec that `as_plain` gave, validated by its family.

    Args:
        within: Setting that holds the spec, for messages.

    Raises:
        ConfigError: There is no such family, or its spec has other fields or values.
    """
    name = values.get("family")
    if not isinstance(name, str):
        raise ConfigError(
            "the student's architecture names no family", hint=f"known: {', '.join(FAMILIES)}"
        )
    return validate(FAMILIES[name].spec, values, source="the student's architecture", within=within)


def preset_spec(
    preset: str | Preset, overrides: Mapping[str, Any] | None = None, *, within: str = ""
) -> StudentSpec:
    """The spec of a preset with some of its values changed.

    Args:
        overrides: Values by field, nested like the spec. A part of another `kind`, and a spec of
            another `family`, replaces the preset's whole.
        within: Setting that holds the overrides, for messages.

    Raises:
        ConfigError: There is no such preset, or a field or value does not fit.
    """
    record = preset if isinstance(preset, Preset) else PRESETS[preset]
    preset_values = parse_spec(record.spec).as_plain()  # with the kind of every part
    return parse_spec(merge(preset_values, overrides or {}), within=within)


def train_presets() -> dict[str, dict[str, Any]]:
    """Training settings by preset: the family's recipe with the preset's own over it."""
    return {
        name: merge(FAMILIES[preset.spec["family"]].recipe, preset.train_settings)
        for name, preset in ((name, PRESETS[name]) for name in PRESETS)
    }
