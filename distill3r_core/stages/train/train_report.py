"""What a training run reports during training and when it has ended."""

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch

from distill3r_core import config
from distill3r_core.files import append_own
from distill3r_core.profiling import machine
from distill3r_core.report import Progress, Report, Table
from distill3r_core.runs.run_record import read_record
from distill3r_core.stages.train.run_folder import (
    CONFIG,
    LOSS_CHART,
    PREDICTIONS,
    RunFolder,
    resume_command,
)
from distill3r_core.training import checkpoints
from distill3r_core.training.metrics_log import FILE as METRICS
from distill3r_core.training.run_state import Ending, TrainState
from distill3r_core.training.settings import TrainSettings
from distill3r_core.training.validation import SHAPE, distances_text
from distill3r_core.untrusted.printable import printable


def format_size(size: tuple[int, int]) -> str:
    """Rows and columns as people write them."""
    return f"{size[0]}x{size[1]}"


def figures(state: TrainState, steps: int) -> dict[str, Any]:
    """The numbers of a run, for scripts."""
    return {
        "step": state.step,
        "steps": steps,
        "loss_first": state.first_loss,
        "loss_last": state.last_loss,
        "best_step": state.best_step,
        "best_validation": state.best_validation,
        "validation": state.last_validation,
    }


def report(
    settings: TrainSettings,
    folder: RunFolder,
    state: TrainState,
    device: torch.device,
    *,
    steps: int,
    ending: Ending,
) -> Report:
    """The outcome of a run that ended by itself."""
    done = _report(settings, folder.path, figures(state, steps), ending=ending, before=False)
    return replace(done, machine=machine(device))


def finished_report(settings: TrainSettings, folder: RunFolder) -> Report:
    """The outcome of a run that had ended before."""
    found = read_record(folder.path)
    assert found is not None, "a finished run has a record"
    about = ("identity", "finished", "launch", "machine", "extensions", "owner")
    numbers = {key: value for key, value in found.items() if key not in about}
    done = _report(settings, folder.path, numbers, ending="complete", before=True)
    return replace(done, machine=found.get("machine"))


def _report(
    settings: TrainSettings, run: Path, numbers: dict[str, Any], *, ending: Ending, before: bool
) -> Report:
    steps = f"{numbers['step']} of {numbers['steps']}"
    loss = f"{_short(numbers['loss_first'])} → {_short(numbers['loss_last'])}"
    rows = [("steps", steps), ("loss", loss)]
    best_validation = numbers.get("best_validation")  # runs of earlier versions have none
    validation = best_validation or numbers["validation"]
    if validation is not None:
        of = f" of `best`, step {numbers['best_step']}" if best_validation else ""
        rows.append((f"held-out loss{of}", _short(validation["validation_loss"])))
        distance = distances_text(
            {
                name.removeprefix("validation_"): value
                for name, value in validation.items()
                if "@" not in name
            }
        )
        if (shape := validation.get(f"validation_{SHAPE}")) is not None:
            rows.append(("local maps off by, one scale a view", f"{shape:.1%}"))
        rows.append(("distance to the teacher, in its unit", distance))
        for name, value in validation.items():
            what, at, label = name.partition("@")
            if at and what == "validation_loss":
                rows.append((f"held-out loss on {label}", _short(value)))
    notes, quoted = [], shlex.quote(str(run))
    if before:
        notes.append(f"{run} is finished: nothing was done")
    if ending == "time":
        notes.append(f"--max-hours reached; resume with `{resume_command(run)}`")
    if ending == "patience":
        notes.append("stopped early: no later validation was better than that of `best`")
    notes.append(f"next: `distill3r eval {quoted}` · `distill3r infer PHOTOS --ply -m {quoted}`")
    best = checkpoints.BEST if numbers["best_step"] is not None else checkpoints.LAST
    files = [run / checkpoints.FOLDER / best / checkpoints.MODEL, run / METRICS, run / CONFIG]
    files += [path for name in (LOSS_CHART, PREDICTIONS) if (path := run / name).is_file()]
    return Report(
        settings=config.as_plain(settings),
        result={"run": str(run), "preset": settings.preset, "ending": ending, **numbers},
        files=files,
        tables=[Table(str(run), ("", "result"), tuple(rows))],
        notes=notes,
        finished_before=before,
    )


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


class LoggedProgress:
    """Progress whose notes go into a file as well, once there is one: the earlier ones, too."""

    def __init__(self, progress: Progress) -> None:
        self.begin, self.advance = progress.begin, progress.advance
        self._progress = progress
        self._early: list[str] = []
        self._file: TextIO | None = None

    def __enter__(self) -> "LoggedProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def keep(self, path: Path) -> None:
        """Append to this file from now on."""
        self._file = append_own(path)
        self._file.writelines(self._early)

    def note(self, text: str) -> None:
        """Say it, and keep it."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(text)}\n"
        if self._file is None:
            self._early.append(line)
        else:
            self._file.write(line)
        self._progress.note(text)
