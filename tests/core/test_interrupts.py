"""Ctrl-C while threads work: whenever it comes, the run ends, and can be done again."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import interrupted
import pytest
from trees import save_picture

from distill3r_core.interrupts import held


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    for number in range(6):
        save_picture(folder / "photos" / f"{number}.png", number, (40, 60))
    interrupted.manifest(folder)
    interrupted.cache(folder)
    return folder


@pytest.mark.parametrize(
    ("task", "every"),
    [
        ("pool", 1),
        ("manifest", 3),
        ("pictures", 3),
        ("loader", 3),
        ("cache", 11),
        pytest.param("cache", 1, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_at_any_moment_ends_the_work(folder, task, every) -> None:
    script = Path(interrupted.__file__)
    found = subprocess.run(
        [sys.executable, script, task, str(every), folder],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 100 / every


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_held_signal_is_answered_once_after_the_block_by_who_answered_before(number) -> None:
    answered, over = [], []
    before = signal.signal(number, lambda signum, frame: answered.append((signum, *over)))
    try:
        with held():
            with held():
                signal.raise_signal(number)
                signal.raise_signal(number)
            over.append("inner")
            signal.raise_signal(number)
            assert not answered
            over.append("outer")
        assert answered == [(number, "inner", "outer")]
        signal.raise_signal(number)
        assert len(answered) == 2
    finally:
        signal.signal(number, before)


def test_an_error_of_the_block_gives_way_to_the_interrupt_that_came_in_it() -> None:
    @held()
    def fail() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, ValueError)


def test_other_threads_hold_nothing() -> None:
    found = []

    def work() -> None:
        with held():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
