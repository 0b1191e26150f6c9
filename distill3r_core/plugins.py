"""Plugins: Python files of the user that add entries to registries."""

import hashlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from distill3r_core.errors import ConfigError, Distill3rError, InputMissingError
from distill3r_core.files import read_file
from distill3r_core.registry import Origin, adding_from, remove_entries_of


@dataclass(frozen=True)
class Plugin:
    """A plugin file that has been loaded."""

    path: Path
    hash: str  # BLAKE2b-128 of its bytes, in hexadecimal

    @property
    def origin(self) -> Origin:
        """Who the entries that it added belong to."""
        return Origin("plugin", str(self.path))

    @property
    def module(self) -> str:
        """Name of its module, under which pickle and dataclasses find its classes."""
        return f"distill3r_plugin_{self.path.stem}_{self.hash[:8]}"


_loaded: list[Plugin] = []


def load(path: Path) -> None:
    """Execute a plugin file. A file of which the same bytes are loaded already is left out.

    The registries that the file adds to are to be imported before: what is registered while the
    file runs belongs to it. `distill3r_core.extend.load_plugins` sees to that.

    Args:
        path: A Python file. It cannot import its neighbors: what needs several files is a package
            with entry points.

    Raises:
        InputMissingError: There is no such file.
        ConfigError: It is not valid Python, it raises, it takes a registered name, or another
            plugin has its file name. Names the file and the line. Nothing of it stays registered.
    """
    try:
        source = read_file(path)
    except FileNotFoundError as error:
        raise InputMissingError(f"no plugin {path}", hint="--plugin takes a Python file") from error
    except OSError as error:
        raise ConfigError(f"cannot read the plugin {path}: {error.strerror}") from error
    plugin = Plugin(path, hashlib.blake2b(source, digest_size=16).hexdigest())
    for other in _loaded:
        if other.hash == plugin.hash:
            return
        if other.path.name == path.name:
            raise ConfigError(
                f"the plugins {other.path} and {path} have the same file name",
                hint="rename one: results record a plugin's file name and hash",
            )
    module = ModuleType(plugin.module)
    module.__file__ = str(path)
    sys.modules[plugin.module] = module
    try:
        code = compile(source, str(path), "exec")
        with adding_from(plugin.origin):
            exec(code, vars(module))
    except (Exception, SystemExit) as error:  # a user's file can raise anything
        _remove(plugin)
        hint = error.hint if isinstance(error, Distill3rError) else None
        raise ConfigError(
            f"cannot load the plugin {path}{_line_of(error, path)}: {_reason(error)}", hint=hint
        ) from error
    _loaded.append(plugin)


def unload_all() -> None:
    """Remove everything that plugins have registered."""
    while _loaded:
        _remove(_loaded.pop())


def loaded_paths() -> list[str]:
    """Paths of the loaded plugins, for a worker process that has to load them as well."""
    return [str(plugin.path.absolute()) for plugin in _loaded]


def hashes() -> dict[str, str]:
    """Hash of each loaded plugin by its file name: part of what a cache, run or result is."""
    return {plugin.path.name: plugin.hash for plugin in _loaded}


def _remove(plugin: Plugin) -> None:
    remove_entries_of(plugin.origin)
    sys.modules.pop(plugin.module, None)


def _line_of(error: BaseException, path: Path) -> str:
    """The line of the file at which an error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _reason(error: BaseException) -> str:
    if isinstance(error, Distill3rError):
        return error.message
    if isinstance(error, SyntaxError):
        return f"it is not valid Python ({error.msg})"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
