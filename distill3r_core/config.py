"""Resolve settings from options, files, presets and defaults, and report every problem at once.

Precedence: option > `--set` > `--config` (the later of several files), or the command's section of
`distill3r.yaml` in the current folder > preset > default.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import yaml
from pydantic import AfterValidator, ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from distill3r_core.config_files import SECTIONS, read_files
from distill3r_core.errors import ConfigError
from distill3r_core.problems import (
    Problem,
    multiple_message,
    problems_of,
    unknown_name,
)
from distill3r_core.untrusted.yaml_text import read_yaml

Settings = TypeVar("Settings")

STRICT = ConfigDict(extra="forbid")  # for `@dataclass(frozen=True, config=STRICT)` of pydantic
LOWER = StringConstraints(to_lower=True)  # for sizes that are kept as text: 28X42 is 28x42
_ABSENT = "(absent)"
_TAGS = ("family", "kind")  # keys that say which of several types a mapping describes


def resolve(
    cls: type[Settings],
    *,
    section: str,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    config: str | Sequence[str] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    default_preset: str | None = None,
    words: Mapping[str, str] | None = None,
    alternatives: Sequence[str] = (),
) -> Settings:
    """Resolve the settings of one command.

    Args:
        cls: A frozen pydantic dataclass, nested ones included, made with `config=STRICT`.
        section: The command, one of `SECTIONS`.
        options: Typed options only, by dotted key (`{"data.views": 8}`).
        sets: `key=value` pairs of `--set`; values are parsed as YAML. `train.data.views` is
            `data.views` in the section `train`.
        config: Files, or bare names of shipped ones, merged in order: the later one wins. None
            of them: `distill3r.yaml`, if it exists.
        presets: Values of each preset by its name, for settings that have the key `preset`. They
            stand below the values of any file.
        default_preset: Preset where none is given.
        words: Name of a setting on the command line by its dotted key (`{"start": "--from"}`),
            for messages.
        alternatives: Settings that replace one another, such as two ways to give a length: one
            that is given hides the others where they come from a source of lower precedence.

    Raises:
        ConfigError: Unknown keys or invalid values; lists all of them.
        InputMissingError: `config` is neither a file nor a shipped name.
    """
    files = read_files(section, config)
    words, typed, values = words or {}, {}, {}
    for file in files:
        values = merge(_hide(values, alternatives, by=file.values), file.values)
    set_values = [_parse_set(text, section) for text in sets]
    values = _hide(values, alternatives, by=dict(set_values))
    for key, value in set_values:
        _put(values, key, value)
        typed[key] = f"--set {key}"
    values = _hide(values, alternatives, by=options or {})
    for key, value in (options or {}).items():
        _put(values, key, value)
        typed[key] = words.get(key, key)
    source = " and ".join(file.source for file in files) or "settings"
    if presets is not None:
        name = values.get("preset", default_preset)
        if name is not None:
            if not isinstance(name, str) or name not in presets:
                wrong = Problem("preset", unknown_name(name, presets))
                raise _refusal([wrong], source=source, typed=typed)
            values = merge(presets[name], values) | {"preset": name}
    # A missing setting is named like its option.
    absent = {key: words[key] for key in words if "." not in key and key not in values}
    return validate(cls, values, source=source, typed=typed | absent)


def validate(
    cls: type[Settings],
    values: Mapping[str, Any],
    *,
    source: str,
    typed: Mapping[str, str] | None = None,
    within: str = "",
) -> Settings:
    """Build `cls(**values)`; problems name settings the way the user did.

    Args:
        cls: The settings' dataclass.
        values: Values of its fields.
        source: Name of their source, for messages.
        typed: Name of each setting that does not come from `source`, by dotted key.
        within: Key of the setting that all these values are, such as `model`.

    Raises:
        ConfigError: Unknown keys or invalid values; lists all of them.
    """
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        problems = problems_of(cls, values, error, sections=SECTIONS)
        if within:
            keys = (f"{within}.{one.key}" if one.key else within for one in problems)
            problems = [replace(one, key=key) for one, key in zip(problems, keys, strict=True)]
        raise _refusal(problems, source=source, typed=typed or {}) from error


def as_plain(settings: Any) -> Any:
    """Settings as dicts, lists, numbers and strings: for YAML and JSON."""
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def as_yaml(
    section: str,
    settings: Any,
    *,
    plugins: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> str:
    """Settings as the text of a config file; `resolve` reads it back to equal settings.

    Args:
        section: The command.
        settings: Its settings.
        plugins: Plugin files that were loaded for it.
        defaults: Plain values without the user's; a comment names those that differ.
    """
    values = {"plugins": list(plugins)} if plugins else {}
    values[section] = as_plain(settings)
    if defaults is not None:
        return "\n".join(_commented(values, {**values, section: defaults})) + "\n"
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def defaults_of(
    settings: Settings,
    presets: Mapping[str, Mapping[str, Any]] | None,
    complete: Callable[[Settings], Settings],
) -> dict[str, Any]:
    """Plain values that settings have without the user's, by the preset that was chosen.

    Args:
        settings: The resolved settings; what has no default keeps its value.
        presets: As for `resolve`.
        complete: Fills in what other settings decide.
    """
    plain = as_plain(settings)
    fields: Mapping[str, FieldInfo] = type(settings).__pydantic_fields__  # type: ignore[attr-defined]
    required = {name: plain[name] for name, field in fields.items() if field.is_required()}
    if presets is not None and plain.get("preset") is not None:
        required = merge(presets[plain["preset"]], required) | {"preset": plain["preset"]}
    return as_plain(complete(validate(type(settings), required, source="the defaults")))


def _commented(
    values: Mapping[str, Any], defaults: Mapping[str, Any], *, indent: str = ""
) -> Iterator[str]:
    """Lines of a YAML mapping, with the default beside each value that differs from it."""
    for key, value in values.items():
        default = defaults.get(key, _ABSENT)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            below = default if isinstance(default, Mapping) else {}
            yield from _commented(value, below, indent=f"{indent}  ")
            continue
        comment = "" if value == default or default is _ABSENT else f"  # default: {_flow(default)}"
        yield f"{indent}{key}: {_flow(value)}{comment}"


def _flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    )
    return text.removesuffix("...\n").strip()


def plugin_files(section: str, config: str | Sequence[str] | None = None) -> list[str]:
    """The plugin files that configurations list: `plugins:` at the top and in the section.

    Args:
        section: The command.
        config: As for `resolve`.

    Raises:
        ConfigError: The file cannot be used, or the list is not one of paths.
        InputMissingError: `config` is neither a file nor a shipped name.
    """
    return [plugin for file in read_files(section, config) for plugin in file.plugins]


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` overridden by the values of `top`; mappings are merged key by key.

    A mapping with another `family` or `kind` describes another type and replaces the one below.
    """
    if any(tag in top and tag in base and top[tag] != base[tag] for tag in _TAGS):
        return dict(top)
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """Lines `key: old → new` for values that differ, by dotted key."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, prefix=f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} → {after}")
    return lines


def _hide(
    values: dict[str, Any], alternatives: Sequence[str], *, by: Mapping[str, Any]
) -> dict[str, Any]:
    """The values without alternatives that a source of higher precedence replaces."""
    if not any(by.get(name) is not None for name in alternatives):
        return values
    return {key: value for key, value in values.items() if key not in alternatives}


def _parse_set(text: str, section: str) -> tuple[str, Any]:
    """Key and value; a key may begin with the command's own section, as it stands in a file."""
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise ConfigError(
            f"cannot read --set {text!r}", hint="--set key=value, --set optim.lr=1e-4"
        )
    try:
        parsed = read_yaml(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"cannot read --set {text!r}: {error}") from error
    if isinstance(parsed, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-4 as text
            parsed = float(parsed)
    return key.strip().removeprefix(f"{section}."), parsed


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        below = values.get(parent)
        # A copy: the mapping may belong to a preset.
        named = {"name": below} if isinstance(below, str) else {}  # `teacher: fast3r`
        values[parent] = dict(below) if isinstance(below, Mapping) else named
        values = values[parent]
    values[last] = value


def _refusal(problems: Sequence[Problem], *, source: str, typed: Mapping[str, str]) -> ConfigError:
    """The error that lists all problems under the names that the user typed."""
    named = [(_typed_as(problem.key, typed), problem) for problem in problems]
    if len(named) == 1 and named[0][0] is not None:
        return ConfigError(f"{named[0][0]}: {named[0][1].message}")
    of_file = source if all(name is None for name, _ in named) else "these settings"
    lines = []
    for name, problem in named:
        place = name or problem.key
        where = f" (in {source})" if name is None and of_file != source and problem.key else ""
        lines.append(f"  {place}: {problem.message}{where}" if place else f"  {problem.message}")
    return ConfigError(f"cannot use {of_file}:\n" + "\n".join(lines))


def _typed_as(key: str, typed: Mapping[str, str]) -> str | None:
    """Typed name of a setting, of a mapping around it or of a part of it; None: not typed."""
    if not key:
        return None
    for given, name in typed.items():
        if key == given or key.startswith(f"{given}."):
            return name + key[len(given) :]
        if given.startswith(f"{key}."):
            return name
    return None


def parse_size(text: str, *, step: int = 1) -> tuple[int, int]:
    """Parse rows and columns of `HxW`.

    Args:
        text: Value of a setting.
        step: Divisor of both numbers.

    Raises:
        ConfigError: They are not two positive multiples of `step`.
    """
    rows, cross, columns = text.lower().partition("x")
    numbers = cross and all(side.isdecimal() and len(side) < 10 for side in (rows, columns))
    if not numbers or int(rows) == 0 or int(columns) == 0:
        raise ConfigError(f"cannot read the size {text!r}", hint="rows x columns: 378x518")
    if int(rows) % step or int(columns) % step:
        raise ConfigError(multiple_message(text, step))
    return int(rows), int(columns)


def read_names(value: Any) -> Any:
    """Names with commas between them as a list, none of them for `none`; other types unchanged."""
    if not isinstance(value, str):
        return value
    return [
        name for name in (part.strip() for part in value.split(",")) if name not in ("", "none")
    ]


def read_size(value: Any) -> Any:
    """Pydantic validator: parse `HxW`; other types pass unchanged."""
    return _read(parse_size, value) if isinstance(value, str) else value


def reads(read: Callable[[str], object]) -> AfterValidator:
    """Pydantic validator: text that `read` accepts; the text itself is the value."""

    def check(text: str) -> str:
        _read(read, text)
        return text

    return AfterValidator(check)


def _read(read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except ConfigError as error:  # pydantic adds the name of the setting
        hint = f" ({error.hint})" if error.hint else ""
        raise ValueError(error.message + hint) from error
