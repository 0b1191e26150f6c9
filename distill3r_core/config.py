"""Settings: where they come from, in which order, and what is wrong with them.

Precedence: option > `--set` > `--config`, or the command's section of `distill3r.yaml` in the
current folder > preset > default.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from distill3r_core.errors import ConfigError, InputMissingError

Settings = TypeVar("Settings")

STRICT = ConfigDict(extra="forbid")  # for `@dataclass(frozen=True, config=STRICT)` of pydantic
PROJECT_FILE = Path("distill3r.yaml")
_ABSENT = "(not there)"
SECTIONS = ("manifest", "cache", "train", "eval", "infer", "bench", "demo")


def resolve(
    cls: type[Settings],
    *,
    section: str,
    options: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    config: str | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    default_preset: str | None = None,
) -> Settings:
    """Settings of one command from every place that may name them.

    Args:
        cls: A frozen pydantic dataclass, nested ones included, made with `config=STRICT`.
        section: The command, one of `SECTIONS`.
        options: What was typed, by dotted key (`{"data.views": 8}`); only what was typed.
        sets: `key=value` pairs of `--set`; values are read as YAML.
        config: A file, or the bare name of a shipped one; None: `distill3r.yaml`, if there is one.
        presets: Values under each preset's name, for settings that have the key `preset`.
        default_preset: The preset where none is named.

    Raises:
        ConfigError: Unknown keys or values that do not fit, all of them at once.
        InputMissingError: `config` is neither a file nor a shipped name.
    """
    source, values = _file_values(section, config)
    for text in sets:
        key, value = _parse_set(text)
        _put(values, key, value)
    for key, value in (options or {}).items():
        _put(values, key, value)
    if presets is not None:
        name = values.get("preset", default_preset)
        if name is not None:
            if name not in presets:
                raise ConfigError(f"unknown preset {name!r}", hint=f"known: {', '.join(presets)}")
            values = merge(presets[name], values) | {"preset": name}
    return validate(cls, values, source=source)


def validate(cls: type[Settings], values: Mapping[str, Any], *, source: str) -> Settings:
    """`cls(**values)` with every problem named by its dotted key.

    Raises:
        ConfigError: Unknown keys or values that do not fit.
    """
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise ConfigError(f"cannot use {source}:\n{_problems(cls, error)}") from error


def as_plain(settings: Any) -> Any:
    """Settings as dicts, lists, numbers and strings: for YAML and JSON."""
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def as_yaml(section: str, settings: Any) -> str:
    """Settings as the text of a config file; `resolve` reads it back to equal settings."""
    return yaml.safe_dump({section: as_plain(settings)}, sort_keys=False, allow_unicode=True)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `top` over it, mappings merged key by key."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    """Lines `key: old → new` for the values that are not the same, by dotted key."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, prefix=f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} → {after}")
    return lines


def shipped(name: str) -> str | None:
    """The text of the shipped configuration of that bare name, or None."""
    file = resources.files("distill3r_core") / "configs" / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else None


def shipped_names() -> list[str]:
    """Bare names of the shipped configurations."""
    folder = resources.files("distill3r_core") / "configs"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml"))


def _file_values(section: str, config: str | None) -> tuple[str, dict[str, Any]]:
    """The name of the file that was read and its values for one command."""
    if config is None:
        if not PROJECT_FILE.is_file():
            return "settings", {}
        source, text = str(PROJECT_FILE), _text_of(PROJECT_FILE)
    elif (path := Path(config)).is_file():
        source, text = config, _text_of(path)
    elif (found := shipped(config)) is not None:
        source, text = config, found
    else:
        raise InputMissingError(
            f"no configuration {config!r}",
            hint=f"give a file, or one of: {', '.join(shipped_names())}",
        )
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read {source}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"cannot use {source}: its top level is not a mapping")
    if all(key in SECTIONS and isinstance(values[key], dict | None) for key in values):
        return source, dict(values.get(section) or {})
    if config is None:
        problems = [
            f"  {key}: {'Not a mapping' if key in SECTIONS else 'Unknown section'}"
            for key, value in values.items()
            if key not in SECTIONS or not isinstance(value, dict | None)
        ]
        raise ConfigError(
            f"cannot use {source}:\n" + "\n".join(problems),
            hint=f"sections: {', '.join(SECTIONS)}",
        )
    return source, values  # without sections the whole file is this command's


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is not a text file") from error


def _parse_set(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"cannot read --set {text!r}", hint="--set key=value, --set optim.lr=1e-4"
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read --set {text!r}: {error}") from error
    if isinstance(parsed, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-4 as a word
            parsed = float(parsed)
    return key.strip(), parsed


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        below = values.get(parent)
        # A copy: the mapping may belong to a preset or a file that others read.
        values[parent] = dict(below) if isinstance(below, Mapping) else {}
        values = values[parent]
    values[last] = value


def _problems(cls: type[Any], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "unexpected_keyword_argument":
            message = _unknown(cls, [str(part) for part in problem["loc"]])
        lines.append(f"  {place}: {message}" if place else f"  {message}")
    return "\n".join(lines)


def _unknown(cls: type[Any], place: Sequence[str]) -> str:
    """What to say of a key that no setting has: the nearest that one has."""
    *parents, last = place
    for parent in parents:
        cls = get_type_hints(cls).get(parent, object)
        if not dataclasses.is_dataclass(cls):
            return "unknown setting"
    near = get_close_matches(last, [field.name for field in dataclasses.fields(cls)], n=1)
    if not parents and last in SECTIONS:
        return f"unknown setting; this command's own have no `{last}.` before them"
    return "unknown setting" + (f"; {near[0]}?" if near else "")


def parse_size(text: str) -> tuple[int, int]:
    """Rows and columns of `HxW`.

    Raises:
        ConfigError: It is not two numbers above 0.
    """
    rows, cross, columns = text.lower().partition("x")
    numbers = cross and rows.isdecimal() and columns.isdecimal()
    if not numbers or int(rows) == 0 or int(columns) == 0:
        raise ConfigError(f"cannot read the size {text!r}", hint="rows x columns: 378x518")
    return int(rows), int(columns)


def read_size(value: Any) -> Any:
    """For pydantic: rows and columns of `HxW`; what is no text is left to the checker."""
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except ConfigError as error:  # pydantic names the setting, beside all others that are wrong
        raise ValueError(error.message) from error
