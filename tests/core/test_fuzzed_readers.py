"""Readers of foreign files end with a result or a documented error, soon and in little memory."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from fuzzing.bounded import BoundedReader
from fuzzing.layouts import LAYOUTS
from fuzzing.mutations import Edit, Mutation, edited, edited_values, mutations
from fuzzing.recordings import RECORDINGS
from fuzzing.targets import TARGETS, Target
from hypothesis import HealthCheck, Phase

_ALL = {**TARGETS, **RECORDINGS, **LAYOUTS}
_LONG = 20.0  # seconds of a target: thirteen minutes together
_EXAMPLES = 25  # of a round
_MOST_ROUNDS = 40  # on a slow machine the time is over before enough files were refused


@pytest.fixture(params=_ALL)
def name(request) -> str:
    return request.param


@pytest.fixture
def target(name: str) -> Target:
    return _ALL[name]


@pytest.fixture
def whole(target: Target, tmp_path: Path) -> Path:
    folder = tmp_path / "whole"
    folder.mkdir()
    target.make(folder)
    return folder


@pytest.fixture
def reader(target: Target, whole: Path) -> Iterator[BoundedReader]:
    folder = whole.with_name("mutated")
    shutil.copytree(whole, folder, symlinks=True)
    with contextlib.closing(BoundedReader(target.read, folder)) as made:
        yield made


def _write(folder: Path, whole: Path, target: Target, mutation: Mutation) -> None:
    """Put one changed file among the valid ones."""
    for file in target.files:
        shutil.copyfile(whole / file, folder / file)
    file = target.files[mutation.file % len(target.files)]
    data, sign = (whole / file).read_bytes(), target.sign.get(file)
    if sign is None or not mutation.structured:
        (folder / file).write_bytes(edited(data, mutation.edits))
        return
    sign(folder / file, edited_values(json.loads(data), mutation.edits))


def _fuzz(
    target: Target,
    whole: Path,
    reader: BoundedReader,
    *,
    seconds: float,
    seed: int,
    refused: int = 0,
) -> dict[str, int]:
    """Try mutations in rounds; how many were read and refused.

    Args:
        seconds: How long at least.
        seed: Of the first round.
        refused: More than so many are to be refused, however long it takes.
    """
    folder, counts = whole.with_name("mutated"), dict.fromkeys(("read", "refused"), 0)
    target.read(whole)  # loads what it needs, before it is bounded
    assert reader().kind == "read"

    def check(mutation: Mutation) -> None:
        _write(folder, whole, target, mutation)
        outcome = reader()
        assert outcome.documented, f"{mutation}\n{outcome.kind}: {outcome.detail}"
        counts[outcome.kind] += 1

    def is_enough() -> bool:
        few = counts["refused"] <= refused and turn < seed + _MOST_ROUNDS
        return turn > seed and time.monotonic() >= end and not few

    end, turn = time.monotonic() + seconds, seed
    while not is_enough():
        turn += 1
        bounded = hypothesis.settings(
            max_examples=_EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        hypothesis.seed(turn)(bounded(hypothesis.given(mutations())(check)))()
    return counts


def test_no_mutated_file_is_a_fault(target, whole, reader) -> None:
    # One round: the same mutations on every machine, however fast it is.
    counts = _fuzz(target, whole, reader, seconds=0, seed=0)
    assert counts["refused"] > 3, counts


@pytest.mark.slow
def test_no_mutated_file_is_a_fault_in_minutes(name, target, whole, reader) -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    counts = _fuzz(target, whole, reader, seconds=_LONG, seed=seed, refused=100)
    print(f"{name}: {counts}, seed {seed}")
    assert counts["refused"] > 100, counts


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(target, whole, kind) -> None:
    folder = whole.with_name("special")

    def read(given: Path) -> None:
        signal.alarm(30)  # a read of a pipe takes no time of the CPU
        target.read(given)

    target.read(whole)
    for file in target.files:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder, symlinks=True)
        (folder / file).unlink()
        if kind == "pipe":
            os.mkfifo(folder / file)
        else:
            (folder / file).symlink_to("/dev/zero")
        with contextlib.closing(BoundedReader(read, folder)) as reader:
            outcome = reader()
        assert outcome.kind == "refused", f"{file}: {outcome.kind}: {outcome.detail}"


def test_a_case_beyond_its_bounds_is_found(tmp_path) -> None:
    """The process sees faults, long work, much memory, and its own end."""
    cases = {
        "fault": lambda _: [][1],
        "memory": lambda _: bytes(1 << 30),
        "slow": lambda _: _spin(2.3),
        "killed": lambda _: os.kill(os.getpid(), 9),
        "read": lambda _: None,
    }
    for kind, read in cases.items():
        with contextlib.closing(BoundedReader(read, tmp_path)) as reader:
            assert reader().kind == kind


def _spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_edits_change_what_they_should() -> None:
    data = bytes(range(100))
    assert len(edited(data, [Edit("cut", 0.5, 0, 0)])) == 50
    assert edited(data, [Edit("flip", 0.1, 0.9, 0)]) != data
    assert edited_values({"a": {"b": 1}}, [Edit("flip", 0.0, 0, 1)]) != {"a": {"b": 1}}
