"""Where a benchmark's result lies: a folder whose `run.json` has identity, machine and result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill3r_core import paths, profiling, results
from distill3r_core.report import Report, Table

_ELSEWHERE = ("output",)  # settings that say nothing about what is measured


@dataclass(frozen=True)
class Place:
    """The folder of one benchmark.

    Args:
        folder: Where its files go.
        identity: The settings and the machine that its figures hold for.
        finished: The same has been measured there already.
    """

    folder: Path
    identity: Mapping[str, Any]
    finished: bool

    def result(self) -> dict[str, Any]:
        """What was measured before."""
        return results.read_record(self.folder)["result"]

    def keep(self, result: Mapping[str, Any], *files: str) -> None:
        """Write the record, which marks the measurement as finished.

        Args:
            result: What was measured.
            files: Names of the others in the folder, without which it is not whole.
        """
        results.write_record(
            self.folder,
            identity=self.identity,
            machine=self.machine,
            files=list(files),
            result=dict(result),
        )

    def report(
        self,
        settings: Mapping[str, Any],
        result: Mapping[str, Any],
        *,
        tables: Sequence[Table],
        notes: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> Report:
        """What a person is told of the result, and whether it was there already.

        Args:
            settings: As plain data.
            result: What was measured.
            tables: That show it.
            notes: Worth saying.
            files: Names of those in the folder that are shown beside the record.
        """
        before = [f"measured before: {self.folder}"] if self.finished else []
        return Report(
            settings=settings,
            result=result,
            files=[*(self.folder / name for name in files), self.record],
            tables=tables,
            notes=[*before, *notes],
            finished_before=self.finished,
            machine=self.machine,
        )

    @property
    def machine(self) -> Mapping[str, Any]:
        """The machine and the device that were measured."""
        return self.identity["machine"]

    @property
    def record(self) -> Path:
        """The file that `keep` writes."""
        return self.folder / results.RECORD


def place_for(
    stem: str,
    settings: Mapping[str, Any],
    *,
    chosen: Path | None,
    device: torch.device | None = None,
    inputs: str | None = None,
    overwrite: bool = False,
) -> Place:
    """The folder for a measurement: the next number, as every one is another, or the one chosen.

    Args:
        stem: Of the folder's name.
        settings: As plain data.
        chosen: The folder that the user named.
        device: What is measured; None: the processor.
        inputs: A hash of what is measured on; None: nothing that could change.
        overwrite: Replace another result in `chosen`.

    Raises:
        ConflictError: `chosen` holds something else.
    """
    measured = {key: value for key, value in settings.items() if key not in _ELSEWHERE}
    identity: dict[str, Any] = {"settings": measured, "machine": profiling.machine(device)}
    if inputs is not None:
        identity["inputs"] = inputs
    default = paths.next_numbered(paths.RESULTS / "bench", stem)
    claimed = results.claim(default, chosen=chosen, identity=identity, overwrite=overwrite)
    return Place(claimed.folder, identity, claimed.finished)
