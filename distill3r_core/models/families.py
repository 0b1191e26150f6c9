"""The student families there are."""

from collections.abc import Mapping
from typing import Any

from distill3r_core.config import merge, validate
from distill3r_core.errors import ConfigError
from distill3r_core.models.family import Family
from distill3r_core.models.multiview.family import MULTIVIEW
from distill3r_core.models.presets import PRESETS, Preset
from distill3r_core.models.spec import StudentSpec
from distill3r_core.registry import Registry

__all__ = ["FAMILIES", "Family", "family_of", "parse_spec", "preset_spec", "train_presets"]

FAMILIES: Registry[Family] = Registry("student family", entry_points="distill3r.families")
FAMILIES.add(MULTIVIEW.name, MULTIVIEW)


def family_of(spec: StudentSpec) -> Family:
    """The family of a spec."""
    return FAMILIES[spec.family]


def parse_spec(values: Mapping[str, Any]) -> StudentSpec:
    """The spec that `as_plain` gave, validated by its family.

    Raises:
        ConfigError: There is no such family, or its spec has other fields or values.
    """
    name = values.get("family")
    if not isinstance(name, str):
        raise ConfigError(
            "the student's architecture names no family", hint=f"known: {', '.join(FAMILIES)}"
        )
    return validate(FAMILIES[name].spec, values, source="the student's architecture")


def preset_spec(preset: str | Preset, overrides: Mapping[str, Any] | None = None) -> StudentSpec:
    """The spec of a preset with some of its values changed.

    Args:
        overrides: Values by field, nested like the spec. A part of another `kind`, and a spec of
            another `family`, replaces the preset's whole.

    Raises:
        ConfigError: There is no such preset, or a field or value does not fit.
    """
    record = preset if isinstance(preset, Preset) else PRESETS[preset]
    preset_values = parse_spec(record.spec).as_plain()  # with the kind of every part
    return parse_spec(merge(preset_values, overrides or {}))


def train_presets() -> dict[str, dict[str, Any]]:
    """Training settings by preset: the family's recipe with the preset's own over it."""
    return {
        name: merge(FAMILIES[preset.spec["family"]].recipe, preset.train_settings)
        for name, preset in ((name, PRESETS[name]) for name in PRESETS)
    }
