"""The setting `teacher`: a name, or a name with settings of the teacher's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from distill3r_core.errors import ConfigError
from distill3r_core.teachers.registry import AUTO, TEACHERS


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
