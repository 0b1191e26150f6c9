"""`metrics.jsonl`: one row of numbers a step, and the figures that a person watches."""

import json
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill3r_core.disk import disk_errors
from distill3r_core.files import write_text
from distill3r_core.training.tensorboard import TensorBoardWriter

FILE = "metrics.jsonl"
WINDOW = 50  # steps of a moving mean


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file; a last line that a kill cut short is no row."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


class MetricsLog:
    """Appends rows; each is on its way to the disk when `add` returns.

    Args:
        after: Rows of later steps than this are removed: they will be computed again.
        tensorboard: Receives every row, too.
    """

    def __init__(
        self, path: Path, *, after: int, tensorboard: TensorBoardWriter | None = None
    ) -> None:
        kept = [row for row in read_metrics(path) if row["step"] <= after]
        write_text(path, "".join(_line(row) for row in kept))
        self._path, self._board = path, tensorboard
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, step: int, **values: float | int | str | None) -> None:
        """One row: `step`, `time` in Unix seconds, and what is given; NaN is written as null."""
        row = {"step": step, "time": time.time(), **values}
        with disk_errors(self._path):
            self._file.write(_line(row))
        if self._board is not None:
            self._board.add(step, values)

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
    return json.dumps(finite) + "\n"
