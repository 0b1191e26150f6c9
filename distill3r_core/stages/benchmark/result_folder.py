"""The folder of a benchmark's result: `run.json` keeps identity, machine and result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill3r_core import paths, profiling, results
from distill3r_core.report import Report, Table


@dataclass(frozen=True)
class ResultFolder:
    """The folder of one result."""

    folder: Path
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    machine: Mapping[str, Any]
    finished: bool

    def read(self) -> dict[str, Any]:
        """The result of a finished measurement."""
        return results.read_record(self.folder)["result"]

    def write(self, result: Mapping[str, Any], *files: str) -> None:
        """Write the record, which marks the measurement as finished.

        Args:
            files: Names of the other files in the folder, without which it is incomplete.
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
        result: Mapping[str, Any],
        *,
        tables: Sequence[Table],
        notes: Sequence[str] = (),
        files: Sequence[str] = (),
    ) -> Report:
        """The report of a result; says whether it was there already.

        Args:
            notes: Notes below them.
            files: Names of files in the folder to list beside the record.
        """
        before = [f"{self.folder} is finished: nothing was done"] if self.finished else []
        return Report(
            settings=self.settings,
            result=result,
            files=[self.folder / name for name in (*files, results.RECORD)],
            tables=tables,
            notes=[*before, *notes],
            finished_before=self.finished,
            machine=self.machine,
        )


def claim_folder(
    name: str,
    settings: Mapping[str, Any],
    *,
    chosen: Path | None,
    device: torch.device | None = None,
    inputs: str | None = None,
    overwrite: bool = False,
    resumable: bool = False,
    ignored: Sequence[str] = ("output",),
) -> ResultFolder:
    """Claim the folder of a result: `results/bench/<name>-NNN`, or the chosen one.

    Args:
        name: Name of the folder, without the number.
        device: Measured device; None: the CPU.
        inputs: Hash of the measured data; None: there are none that could change.
        overwrite: Replace another result in `chosen`.
        resumable: The same settings continue what is there, on any machine, instead of taking the
            next number.
        ignored: Settings that do not change the result.

    Raises:
        ConflictError: `chosen` holds something else.
    """
    machine = profiling.machine(device)
    identity: dict[str, Any] = {
        "settings": {key: value for key, value in settings.items() if key not in ignored}
    }
    if not resumable:
        identity["machine"] = machine
    if inputs is not None:
        identity["inputs"] = inputs
    folder = paths.RESULTS / "bench"
    default = folder / name if resumable else paths.next_numbered(folder, name)
    claimed = results.claim(default, chosen=chosen, identity=identity, overwrite=overwrite)
    return ResultFolder(claimed.folder, settings, identity, machine, claimed.finished)
