"""Memory that this process may still allocate, within the limits of its environment.

A container, a batch job and a systemd slice are control groups: a process that goes beyond the
limit of its group, or of one above, is killed without a message. A shell or a scheduler may also
limit the address space or the data of the process (`ulimit -v`, `ulimit -d`).
"""

import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class _Names:
    """Names of a group's files, and of the field that counts droppable pages."""

    limit: str
    used: str
    droppable: str


_NAMES = {
    1: _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: _Names("memory.max", "memory.current", "inactive_file"),
}


def available_memory() -> int:
    """Bytes that can be allocated without swapping and without being killed."""
    return max(0, min([psutil.virtual_memory().available, *_group_memory(), *_address_space()]))


def _address_space() -> Iterator[int]:
    memory = psutil.Process().memory_info()
    for which, used in ((resource.RLIMIT_AS, "vms"), (resource.RLIMIT_DATA, "data")):
        limit, _ = resource.getrlimit(which)
        if limit != resource.RLIM_INFINITY and hasattr(memory, used):  # `data` on Linux only
            yield limit - getattr(memory, used)


def _group_memory() -> Iterator[int]:
    """Memory left within the limit of each group and of those above it."""
    for names, folder in _groups():
        while folder.is_relative_to(_CONTROL_GROUPS):
            try:
                limit, used = _read(folder / names.limit), _read(folder / names.used)
                lines = (folder / "memory.stat").read_text().splitlines()
                stat = dict(line.split() for line in lines)
            except (OSError, ValueError):
                pass  # no limit ("max"), the root, or not visible from inside a container
            else:
                # Cached files stay in memory until it is needed.
                yield limit - used + int(stat.get(names.droppable, 0))
            folder = folder.parent


def _groups() -> Iterator[tuple[_Names, Path]]:
    """The folders of this process's memory group, of either version."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield _NAMES[2], _CONTROL_GROUPS / path.lstrip("/")
        elif "memory" in controllers.split(","):
            yield _NAMES[1], _CONTROL_GROUPS / "memory" / path.lstrip("/")


def _read(path: Path) -> int:
    return int(path.read_text())
