"""`metrics.jsonl`: one row of numbers a step, and the figures that a person watches."""

import json
import math
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill3r_core.files import append_own, is_there, read_own, write_text
from distill3r_core.system.disk import disk_errors
from distill3r_core.training.tensorboard import TensorBoardWriter

FILE = "metrics.jsonl"
_CHECKSUM = "crc"  # of the row without its time: equal steps have equal checksums
WINDOW = 50  # steps of a moving mean


def read_metrics(
    path: Path, *, warn: Callable[[str], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """The rows of a file whose checksums are right.

    A last line that a kill cut short is no row.

    Args:
        warn: Called with a message for each damaged line, which is left out.
    """
    if not is_there(path):
        return
    for number, line in enumerate(read_own(path).split(b"\n")[:-1], start=1):
        row = _parse(line)
        if row is None:
            warn(f"warning: {path}:{number} is damaged, and left out")
        else:
            yield row


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None where it is damaged."""
    try:
        row = json.loads(line)
        if type(row["step"]) is not int or type(row["time"]) not in (int, float):
            return None
        written = row.pop(_CHECKSUM, None)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return row if written in (None, _checksum(row)) else None


class MetricsLog:
    """Appends rows; each is on its way to the disk when `add` returns.

    Args:
        after: Rows of later steps than this are removed: they will be computed again.
        warn: Called with a message for each damaged line, which is removed.
        tensorboard: Receives every row, too.
    """

    def __init__(
        self,
        path: Path,
        *,
        after: int,
        tensorboard: TensorBoardWriter | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        kept = [row for row in read_metrics(path, warn=warn) if row["step"] <= after]
        write_text(path, "".join(_line(row) for row in kept), durable=True)
        self._path, self._board = path, tensorboard
        self._file = append_own(path)

    def add(self, step: int, **values: float | int | str | None) -> None:
        """One row: `step`, `time` in Unix seconds, and what is given; NaN is written as null."""
        row = {"step": step, "time": time.time(), **values}
        with disk_errors(self._path):
            self._file.write(_line(row))
        if self._board is not None:
            self._board.add(step, values)

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        with disk_errors(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more rows."""
        self._file.close()
        if self._board is not None:
            self._board.close()


class MovingMean:
    """Mean of the last values."""

    def __init__(self, window: int = WINDOW) -> None:
        self._values: deque[float] = deque(maxlen=window)

    def add(self, value: float) -> float:
        """Count one more value in; the mean."""
        self._values.append(value)
        return sum(self._values) / len(self._values)


def _line(row: Mapping[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps({**finite, _CHECKSUM: _checksum(finite)}) + "\n"


def _checksum(row: Mapping[str, Any]) -> int:
    kept = {name: value for name, value in row.items() if name != "time"}
    return zlib.crc32(json.dumps(kept).encode())
