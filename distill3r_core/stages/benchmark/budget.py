"""The numbers of views that a benchmark measures, and how many runs fit into its budget."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from distill3r_core.errors import ConfigError
from distill3r_core.models.families import FAMILIES

PAPER_VIEWS = (12, 32, 64, 96, 128)  # Table I of arXiv:2602.00865
MIN_RUNS = 2  # one to warm up, one to time

_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")


def parse_views(text: str) -> tuple[int, ...]:
    """Read numbers of views: ascending, each once.

    Args:
        text: `A..B`: the paper's points within [A, B]. `A..B..S`: from A to B in steps of S.
            Numbers, or any of these, separated by commas.

    Raises:
        ConfigError: There are none, or one is under 1 or over 1000.
    """
    found: set[int] = set()
    for item in text.split(","):
        found.update(_views_of(item.strip()))
    most = max(FAMILIES[name].views.maximum for name in FAMILIES)
    if max(found, default=0) > most:
        raise ConfigError(f"{max(found)} views: a student takes {most} at most")
    return tuple(sorted(found))


def _views_of(item: str) -> Sequence[int]:
    if item.isdecimal() and int(item) > 0:
        return (int(item),)
    match = _RANGE.fullmatch(item)
    if match is None:
        raise ConfigError(
            f"cannot read the views {item!r}", hint="12..128, 8..64..8 or 2,8,32, each at least 1"
        )
    low, high = int(match[1]), int(match[2])
    if low > high:
        raise ConfigError(
            f"the views {item!r} name no number of views", hint="upwards: 12..128, or 2..8..2"
        )
    if match[3] is None:
        views = [n for n in PAPER_VIEWS if low <= n <= high]
        way_out = f"points of the paper: {', '.join(map(str, PAPER_VIEWS))}; or step: {item}..2"
    else:
        views = list(range(low, high + 1, int(match[3]))) if int(match[3]) else []
        way_out = "A..B..S goes from A to B in steps of S, all at least 1"
    if not views or views[0] < 1:
        raise ConfigError(f"the views {item!r} name no number of views", hint=way_out)
    return views


def nearest_multiple(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Each side rounded to the nearest multiple of a patch, at least one patch."""
    rows, columns = (max(1, math.floor(side / patch + 0.5)) * patch for side in size)
    return rows, columns


@dataclass(frozen=True)
class RunSeconds:
    """Expected seconds of a row of the benchmark."""

    start: float  # starting the process and building its model
    forward: float

    @property
    def least(self) -> float:
        """With one warm-up and one timed run."""
        return self.start + MIN_RUNS * self.forward


def affordable(costs: Sequence[RunSeconds], seconds: float) -> list[bool]:
    """Whether each row fits into what the rows before it leave of `seconds`."""
    fits = []
    for cost in costs:
        fits.append(cost.least <= seconds)
        if fits[-1]:
            seconds -= cost.least
    return fits


def planned_runs(spare: float, round_seconds: float, *, warmups: int, runs: int) -> tuple[int, int]:
    """Numbers of warm-up and of timed runs, at least one of each.

    Args:
        spare: Seconds beyond the minimum of one run each.
        round_seconds: Seconds of one run of every model of the row.
        warmups: Wanted number of warm-up runs.
    """
    wanted = warmups + runs - MIN_RUNS
    if wanted * round_seconds <= spare:
        return warmups, runs
    return 1, max(1, min(runs, 1 + math.floor(spare / round_seconds)))
