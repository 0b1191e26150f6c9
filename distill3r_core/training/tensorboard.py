"""The rows of `metrics.jsonl` in TensorBoard as well, for those who installed it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill3r_core.errors import ExtraMissingError
from distill3r_core.system.interrupts import defer_signals

FOLDER = "tensorboard"


def summary_writer() -> Any:
    """TensorBoard's writer, which torch leaves untyped.

    Raises:
        ExtraMissingError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ExtraMissingError(
            "TensorBoard is not installed", hint="pip install 'distill3r[tb]'"
        ) from error
    return SummaryWriter


class TensorBoardWriter:
    """Writes numbers of steps.

    Args:
        after: What an earlier process wrote of later steps than this is hidden.

    Raises:
        ExtraMissingError: TensorBoard is not installed.
    """

    def __init__(self, run: Path, *, after: int = 0) -> None:
        self._writer = summary_writer()(run / FOLDER, purge_step=after + 1)

    def add(self, step: int, values: Mapping[str, float | int | str | None]) -> None:
        """Numbers of a step; what is no number is left out."""
        with defer_signals():  # a queue is between the writer and its thread
            for name, value in values.items():
                if isinstance(value, float | int):
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        with defer_signals():
            self._writer.close()
