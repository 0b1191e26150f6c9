"""The setting `teacher`: of `cache` a name, with or without the teacher's own settings; of commands
that run teachers as models, those settings alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from distill3r_core.errors import ConfigError
from distill3r_core.teachers.record import TeacherRecord
from distill3r_core.teachers.registry import AUTO, TEACHERS

_OF_CACHES = frozenset({"pairs"})  # makes other samples, which only a cache holds


@dataclass(frozen=True)
class TeacherChoice:
    """Which teacher is used, and how.

    Args:
        name: Its name; "auto": chosen by what the data have.
        settings: The teacher's own settings.
    """

    name: str = AUTO
    settings: Mapping[str, Any] = field(default_factory=dict)


def _read(value: Any) -> TeacherChoice:
    """Read `fast3r`, or `{name: fast3r, precision: float32}`; the name may be left out."""
    if isinstance(value, TeacherChoice):
        return value
    values = {"name": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping) or not isinstance(values.get("name", AUTO), str):
        raise ValueError(f"{value!r} is not the name of a teacher, with or without its settings")
    settings = dict(values)
    name = settings.pop("name", AUTO)
    if name != AUTO:
        try:
            TEACHERS[name].read_settings(settings)
        except ConfigError as error:  # pydantic names the setting, beside all others
            raise ValueError(error.message + (f" ({error.hint})" if error.hint else "")) from error
    return TeacherChoice(name, settings)


def _plain(choice: TeacherChoice) -> str | dict[str, Any]:
    return {"name": choice.name, **choice.settings} if choice.settings else choice.name


TeacherSetting = Annotated[TeacherChoice, BeforeValidator(_read), PlainSerializer(_plain)]


def _read_own(value: Any) -> dict[str, Any]:
    """Settings by name; which of them there are depends on the models."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{value!r} is not settings of a teacher, such as {{graph: swin-3}}")
    return dict(value)


OwnSettings = Annotated[Mapping[str, Any], BeforeValidator(_read_own)]


def settings_for(record: TeacherRecord, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that are settings of this teacher."""
    return {name: values[name] for name in _names(record) if name in values}


def check_own_settings(
    teachers: Sequence[TeacherRecord], values: Mapping[str, Any], *, untrained: Sequence[str] = ()
) -> None:
    """Refuse a setting that no teacher among the models has, and values that do not fit.

    Args:
        teachers: The teachers that are run; each takes the settings that it has.
        values: Settings by name.
        untrained: Networks of teachers that are run as published, with random weights.

    Raises:
        ConfigError: Names the setting, and those that there are.
    """
    known = dict.fromkeys(name for record in teachers for name in _names(record))
    for name in values:
        if name in known:
            continue
        if not teachers and untrained:
            raise ConfigError(
                f"teacher.{name}: {untrained[0]} is run as published, with random weights, and "
                "takes no settings of a teacher",
                hint="leave it out, or name the folder of its weights in place of it",
            )
        if not teachers:
            raise ConfigError(
                f"teacher.{name} is for teachers, and no model that is run is one",
                hint="leave it out, or name a teacher as a model",
            )
        raise ConfigError(
            f"teacher.{name}: no such setting of {', '.join(one.name for one in teachers)}",
            hint=f"settings: {', '.join(known)}" if known else "there are none",
        )
    for record in teachers:
        record.read_settings(settings_for(record, values))


def _names(record: TeacherRecord) -> list[str]:
    return [one.name for one in dataclasses.fields(record.settings) if one.name not in _OF_CACHES]
