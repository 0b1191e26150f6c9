"""Interrupted anywhere, a run ends with the weights of one that never was."""

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill3r_core.data.loading.batches import Batch
from distill3r_core.errors import ConflictError, DamageError
from distill3r_core.report import Silent
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.system.interrupts import StopFlag
from distill3r_core.training import checkpoints
from distill3r_core.training.loop import TrainLoop
from distill3r_core.training.metrics_log import read_metrics
from distill3r_core.training.step import StepMetrics

MakeCache = Callable[..., Path]
STEPS = 11
SETS = ("checkpoint.every_steps=3", "validation.every_steps=5", "data.workers=2", "data.hold=false")


def command(cache: Path, run: Path, *more: str) -> list[str]:
    sets = [word for pair in SETS for word in ("--set", pair)]
    return [
        *(sys.executable, "-m", "distill3r_cli", "train", "--preset", "tiny"),
        *("--cache", str(cache), "-o", str(run), "--max-steps", str(STEPS), *sets, *more),
    ]


class Process:
    """A command with its words in a file: a pipe would be held open by its orphans."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("w") as file:
            self.popen = subprocess.Popen(
                arguments,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(timeout=60)

    def interrupt(self, number: signal.Signals) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(timeout=300)

    def end(self, status: int = 0) -> str:
        found = self.popen.wait(timeout=300)
        text = self._log.read_text()
        assert found == status, text
        return text


def wait_for_rows(run: Path, rows: int, process: Process) -> None:
    """Return when the run has told about so many steps, or has ended."""
    path = run / "metrics.jsonl"
    end = time.monotonic() + 120
    while process.popen.poll() is None and time.monotonic() < end:
        if path.is_file() and path.read_text().count("gradient_norm") >= rows:
            return
        time.sleep(0.01)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "last" / "model.safetensors")


def assert_same_run(run: Path, other: Path) -> None:
    mine, theirs = weights(run), weights(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    files = [folder / "checkpoints" / "last" / "model.safetensors" for folder in (run, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    first, second = (
        checkpoints.read(folder / "checkpoints" / "last").optimizer() for folder in (run, other)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert validations(run) == validations(other)


def validations(run: Path) -> tuple[dict[str, object], list[dict[str, object]]]:
    """What a run's last state and its rows say about validation."""
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    kept = (
        "best",
        "best_step",
        "best_validation",
        "validations_without_improvement",
        "last_validation",
    )
    rows = [
        {name: value for name, value in row.items() if name != "time"}
        for row in read_metrics(run / "metrics.jsonl")
        if "validation_loss" in row
    ]
    return {name: state[name] for name in kept}, rows


@pytest.fixture(scope="module")
def whole(make_cache: MakeCache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache, and a run on it that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    cache = make_cache(folder / "cache")
    Process(command(cache, folder / "run"), folder / "log").end()
    return cache, folder / "run"


def test_killed_at_random_moments_it_ends_bit_identical(
    whole: tuple[Path, Path], tmp_path: Path, drill: Callable[[int], int]
) -> None:
    cache, run = whole[0], tmp_path / "run"
    rng = random.Random(0)
    for _ in range(drill(5)):
        process = Process(command(cache, run, "--resume"), tmp_path / "log")
        wait_for_rows(run, rng.randrange(STEPS), process)
        time.sleep(rng.random() * 0.2)
        process.kill()
    Process(command(cache, run, "--resume"), tmp_path / "log").end()
    assert_same_run(run, whole[1])
    steps = [
        line.split(",")[0]
        for line in (run / "metrics.jsonl").read_text().splitlines()
        if "gradient_norm" in line
    ]
    assert len(steps) == len(set(steps)) == STEPS


@pytest.mark.parametrize(
    ("number", "damaged"),
    [(signal.SIGTERM, False), (signal.SIGINT, True)],
    ids=["SIGTERM", "Ctrl-C, and the last checkpoint is damaged"],
)
def test_interrupted_it_checkpoints_the_last_step_and_resumes_bit_identical(
    number: signal.Signals, damaged: bool, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    cache, run = whole[0], tmp_path / "run"
    process = Process(command(cache, run), tmp_path / "log")
    wait_for_rows(run, 7 if damaged else 4, process)
    assert process.interrupt(number) == 130
    kept = checkpoints.newest(run, warn=print)
    assert kept is not None
    told = (run / "metrics.jsonl").read_text().count("gradient_norm")
    assert kept.step == told  # nothing was lost
    said = (tmp_path / "log").read_text()
    again = f"distill3r train --resume -o {run} --config {run}/config.yaml"
    assert f"interrupted after step {told}; resume with `{again}`" in said
    if damaged:
        data = bytearray(kept.model.read_bytes())
        data[-100] ^= 1
        kept.model.write_bytes(data)
    # The command named for resuming is what a user types.
    typed = [sys.executable, "-m", "distill3r_cli", *shlex.split(again)[1:]]
    text = Process(typed, tmp_path / "log").end().replace("\n", "")
    assert (f"{kept.folder.name}/model.safetensors is damaged" in text) is damaged
    assert_same_run(run, whole[1])


def test_when_every_checkpoint_is_damaged_that_is_said(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    settings = tiny(cache, run, max_steps=2, max_hours=1e-9)
    train(settings)
    for state in run.glob("checkpoints/step-*/state.json"):
        state.write_text(state.read_text().replace('"step": 1', '"step": 2'))
    with pytest.raises(DamageError, match="every checkpoint"):
        train(settings, resume=True)


def test_max_hours_ends_usable_and_resumable(make_cache: MakeCache, tmp_path: Path) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    report = train(tiny(cache, run, max_steps=3, max_hours=1e-9))
    assert report.result["ending"] == "time"
    assert report.result["step"] == 1
    assert report.result["validation"] is not None
    assert (run / "checkpoints" / "best" / "model.safetensors").is_file()
    with pytest.raises(ConflictError, match="unfinished"):
        train(tiny(cache, run, max_steps=3))
    assert train(tiny(cache, run, max_steps=3), resume=True).result["ending"] == "complete"


def test_without_a_name_the_newest_unfinished_run_goes_on(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = make_cache(tmp_path / "cache")
    started = tiny(cache, None, max_steps=2, max_hours=1e-9)
    assert train(started, resume=True).result["run"] == "runs/tiny-001"  # nothing there: starts
    again = train(tiny(cache, None, max_steps=2), resume=True)
    assert again.result["run"] == "runs/tiny-001"
    assert again.result["ending"] == "complete"
    assert train(tiny(cache, None, max_steps=2), resume=True).finished_before
    assert train(tiny(cache, None, max_steps=2)).result["run"] == "runs/tiny-002"


def test_two_processes_cannot_train_one_run(make_cache: MakeCache, tmp_path: Path) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    process = Process(command(cache, run), tmp_path / "log")
    wait_for_rows(run, 1, process)
    process.popen.send_signal(signal.SIGSTOP)  # else it may end before the other one begins
    other = Process(command(cache, run, "--resume"), tmp_path / "other")
    try:
        assert "another process" in other.end(status=2)
    finally:
        process.kill()


def test_stopped_where_it_is_to_be_validated_it_is_validated_when_it_goes_on(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache")
    often = {"max_steps": 4, "validation.every_steps": 2}
    train(tiny(cache, tmp_path / "whole", **often))

    def stopping(
        loop: TrainLoop, batch: Batch, stop_flag: StopFlag
    ) -> tuple[StepMetrics, float, bool]:
        figures, norm, _ = step(loop, batch, stop_flag)
        return figures, norm, loop.state.step == 2

    step = TrainLoop._step
    with monkeypatch.context() as patch:
        patch.setattr(TrainLoop, "_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(cache, tmp_path / "run", **often))
    train(tiny(cache, tmp_path / "run", **often), resume=True)
    assert validations(tmp_path / "whole")[1][0]["step"] == 2
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_last_look_is_in_the_last_state(make_cache: MakeCache, tmp_path: Path) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    train(tiny(cache, run, max_steps=3, max_hours=1e-9, **{"checkpoint.every_steps": 1}))
    state = checkpoints.read(run / "checkpoints" / "last").state
    assert state["best_step"] == state["validated_step"] == 1


def tiny(cache: Path, run: Path | None, **options: float) -> TrainSettings:
    from distill3r_core import config
    from distill3r_core.models.families import train_presets

    given = {"preset": "tiny", "cache": cache, "output": run, **options}
    return config.resolve(TrainSettings, section="train", options=given, presets=train_presets())


def test_notes_of_a_run_are_kept(make_cache: MakeCache, tmp_path: Path) -> None:
    cache, run, silent = make_cache(tmp_path / "cache"), tmp_path / "run", Silent()
    train(tiny(cache, run, max_steps=1), progress=silent)
    kept = (run / "log.txt").read_text()
    assert silent.notes
    assert all(note in kept for note in silent.notes)
