"""Registries: the records behind the names that a user types, and who added each of them."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from distill3r_core.errors import ConfigError

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Origin:
    """Who added an entry."""

    kind: str  # "built in", "package" (through an entry point) or "plugin" (a file)
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "built in" else f"the {self.kind} {self.name}"


BUILT_IN = Origin("built in", "distill3r")
_current_origin: ContextVar[Origin] = ContextVar("origin of new entries", default=BUILT_IN)
_registries: WeakSet["Registry[Any]"] = WeakSet()


@contextmanager
def adding_from(origin: Origin) -> Iterator[None]:
    """Entries added within the block belong to `origin`."""
    token = _current_origin.set(origin)
    try:
        yield
    finally:
        _current_origin.reset(token)


def remove_entries_of(origin: Origin) -> None:
    """Remove all entries that `origin` added, from every registry."""
    for registry in tuple(_registries):
        for name in [name for name, added_by in registry._origins.items() if added_by == origin]:
            del registry._origins[name], registry._entries[name]


class Registry(Generic[Entry]):
    """Entries by name. An unknown name is answered with the nearest known one.

    Args:
        kind: What the entries are, as error messages call them ("teacher").
        entry_points: Entry-point group through which installed packages add entries. Its names
            are read at the first lookup; a package is imported when its entry is looked up.
    """

    def __init__(self, kind: str, *, entry_points: str | None = None) -> None:
        self.kind = kind
        self._group = entry_points
        self._entries: dict[str, Entry] = {}
        self._origins: dict[str, Origin] = {}
        self._unloaded: dict[str, metadata.EntryPoint] = {}
        _registries.add(self)

    def add(self, name: str, entry: Entry) -> Entry:
        """Register an entry.

        Raises:
            ConfigError: The name is taken; says by whom.
        """
        origin = _current_origin.get()
        if origin != BUILT_IN:
            self._discover()
        if name in self._origins:
            raise self._conflict(name, origin, self._origins[name])
        self._origins[name] = origin
        self._entries[name] = entry
        return entry

    def origin(self, name: str) -> Origin:
        """Who added the entry.

        Raises:
            ConfigError: There is none of this name.
        """
        self._require(name)
        return self._origins[name]

    def __getitem__(self, name: str) -> Entry:
        """The entry called `name`.

        Raises:
            ConfigError: There is none (names the nearest and lists all), or its package cannot
                be imported.
        """
        self._require(name)
        if name in self._unloaded:
            point = self._unloaded[name]
            try:
                self._entries[name] = point.load()
            except Exception as error:  # another package's import can raise anything
                raise ConfigError(
                    f"cannot load the {self.kind} {name!r} of {self._origins[name]} "
                    f"({point.value}): {type(error).__name__}: {error}"
                ) from error
            del self._unloaded[name]
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._origins

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(tuple(self._origins))

    def _require(self, name: str) -> None:
        if name in self:
            return
        near = difflib.get_close_matches(name, self._origins, n=1)
        raise ConfigError(
            f"unknown {self.kind} {name!r}" + (f", did you mean {near[0]!r}?" if near else ""),
            hint=f"known: {', '.join(sorted(self._origins))}",
        )

    def _discover(self) -> None:
        """Read the names of the entry points, once; after a conflict, at every lookup."""
        if self._group is None:
            return
        found: dict[str, Origin] = {}
        points = {}
        for point in metadata.entry_points(group=self._group):
            origin = Origin("package", point.dist.name if point.dist else point.value)
            if owner := found.get(point.name) or self._origins.get(point.name):
                raise self._conflict(point.name, origin, owner)
            found[point.name], points[point.name] = origin, point
        self._origins |= found
        self._unloaded |= points
        self._group = None

    def _conflict(self, name: str, one: Origin, other: Origin) -> ConfigError:
        return ConfigError(f"{one} and {other} both bring a {self.kind} {name!r}")
