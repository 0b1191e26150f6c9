"""Configuration files: those that are shipped, those that the user names, and the project's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from distill3r_core.errors import ConfigError, InputMissingError
from distill3r_core.files import is_there, read_text_file, refuse_special
from distill3r_core.problems import format_value
from distill3r_core.untrusted.yaml_text import odd_key, read_yaml

PROJECT_FILE = Path("distill3r.yaml")
_LONGEST_VALUE = 80  # characters of a key in a message
_LONGEST_REASON = 500  # characters of an error that may quote the file
SECTIONS = ("manifest", "cache", "train", "eval", "infer", "bench", "demo")


def shipped(name: str) -> str | None:
    """Text of a shipped configuration, or None if there is none of this name."""
    file = resources.files("distill3r_core") / "configs" / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else None


def shipped_names() -> list[str]:
    """Names of the shipped configurations."""
    folder = resources.files("distill3r_core") / "configs"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml"))


@dataclass(frozen=True)
class ConfigFile:
    """What one configuration file has for one command."""

    source: str  # the file as the user named it
    values: dict[str, Any]
    plugins: list[str]


def read_files(section: str, config: str | Sequence[str] | None) -> list[ConfigFile]:
    """The configuration files that were named, else the project's file where it exists."""
    named = [config] if isinstance(config, str) else list(config or ())
    if named:
        return [_read_named(section, name) for name in named]
    return [_read_project(section)] if is_there(PROJECT_FILE) else []


def _read_named(section: str, name: str) -> ConfigFile:
    if is_there(path := Path(name)):
        text = _text_of(path)
    elif (found := shipped(name)) is not None:
        text = found
    else:
        raise InputMissingError(
            f"no configuration {name!r}",
            hint=f"give a file, or one of: {', '.join(shipped_names())}",
        )
    values, plugins = _parse(text, name)
    if not _not_sections(values):
        return _section_of(values, section, name, plugins)
    return ConfigFile(name, values, plugins)  # without sections it all belongs to this command


def _read_project(section: str) -> ConfigFile:
    source = str(PROJECT_FILE)
    values, plugins = _parse(_text_of(PROJECT_FILE), source)
    if wrong := _not_sections(values):
        problems = [
            f"  {key}: {'Not a mapping' if key in SECTIONS else 'Unknown section'}" for key in wrong
        ]
        raise ConfigError(
            f"cannot use {source}:\n" + "\n".join(problems),
            hint=f"sections: {', '.join(SECTIONS)}",
        )
    return _section_of(values, section, source, plugins)


def _parse(text: str, source: str) -> tuple[dict[str, Any], list[str]]:
    """Values of a YAML document, and the plugin files at its top."""
    try:
        values = read_yaml(text) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"cannot read {source}: {str(error)[:_LONGEST_REASON]}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"cannot use {source}: its top level is not a mapping")
    if (odd := odd_key(values)) is not None:
        raise ConfigError(f"cannot use {source}: {odd[:_LONGEST_VALUE]!a} is no name of a setting")
    return values, _pop_plugins(values, source)


def _not_sections(values: Mapping[str, Any]) -> list[str]:
    """Keys that are no sections with settings."""
    return [
        key
        for key, value in values.items()
        if key not in SECTIONS or not isinstance(value, dict | None)
    ]


def _section_of(
    values: Mapping[str, Any], section: str, source: str, plugins: list[str]
) -> ConfigFile:
    own = dict(values.get(section) or {})
    return ConfigFile(source, own, [*plugins, *_pop_plugins(own, source)])


def _pop_plugins(values: dict[str, Any], source: str) -> list[str]:
    listed = values.pop("plugins", None) or []
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise ConfigError(
            f"cannot use {source}:\n  plugins: {format_value(listed)} is not a list of files",
            hint="plugins: [mine.py]",
        )
    return listed


def _text_of(path: Path) -> str:
    refuse_special(path)
    try:
        return read_text_file(path, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is not a text file") from error
