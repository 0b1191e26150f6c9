"""Names that a user types, and what they stand for."""

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from distill3r_core.errors import ConfigError

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name; a name that is unknown is answered with the nearest one.

    Args:
        kind: What the entries are, in the words of an error message ("teacher").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> Entry:
        """Register an entry. Names are unique."""
        assert name not in self._entries, f"{self.kind} {name!r} is registered twice"
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> Entry:
        """The entry called `name`.

        Raises:
            ConfigError: There is none; names the nearest and lists what there is.
        """
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, n=1)
        raise ConfigError(
            f"unknown {self.kind} {name!r}" + (f", did you mean {near[0]!r}?" if near else ""),
            hint=f"known: {', '.join(sorted(self._entries))}",
        )

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)
