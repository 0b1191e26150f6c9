"""What a warm start is: its record, and what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core.registry import Registry


@dataclass(frozen=True)
class StartedFrom:
    """Where the weights of a student come from.

    Args:
        summary: File, its hash, blocks, heads: for the run and the checkpoint.
        licenses: Licenses of the file's weights, which the student inherits.
    """

    summary: str
    licenses: tuple[str, ...]


@dataclass(frozen=True)
class WarmStart:
    """A way to start a student from the weights of a larger network.

    Args:
        start: Fills a student of the family from a file, in place.
    """

    family: str  # of the students that it can start
    summary: str  # how it works, in one sentence
    start: Callable[[Any, Path], StartedFrom]


WARM_STARTS: Registry[WarmStart] = Registry("warm start")
