"""Ctrl-C while threads work: whenever it comes, the run ends, and can be done again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import interrupted
import pytest
from trees import save_picture

from distill3r_core.system.interrupts import defer_signals, interrupts_between_steps
from distill3r_core.system.threads import Pool, result_of


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
        ("pool", 3),
        ("manifest", 9),
        ("pictures", 9),
        ("loader", 9),
        ("cache", 45),
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
def test_held_signals_are_answered_after_the_block_by_who_answered_before(number) -> None:
    answered, over = [], []
    before = signal.signal(number, lambda signum, frame: answered.append((signum, *over)))
    try:
        with defer_signals():
            with defer_signals():
                signal.raise_signal(number)
            over.append("inner")
            signal.raise_signal(number)
            assert not answered
            over.append("outer")
        assert answered == [(number, "inner", "outer")] * 2
        signal.raise_signal(number)
        assert len(answered) == 3
    finally:
        signal.signal(number, before)


def test_an_error_of_the_block_gives_way_to_the_interrupt_that_came_in_it() -> None:
    @defer_signals()
    def fail() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, ValueError)


def test_the_second_wish_to_stop_is_not_lost_in_a_block_that_holds() -> None:
    @defer_signals()
    def ask_twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    with interrupts_between_steps() as stop_flag:
        with pytest.raises(KeyboardInterrupt):
            ask_twice()
        assert stop_flag.stop


@contextmanager
def interrupts_after(*seconds: float) -> Iterator[None]:
    timers = [Timer(each, os.kill, (os.getpid(), signal.SIGINT)) for each in seconds]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    for timer in timers:
        timer.join()


def test_an_interrupt_ends_a_long_job_that_asks_now_and_then() -> None:
    def endless() -> None:
        while True:
            time.sleep(0.01)
            pool.check()

    started = time.monotonic()
    with interrupts_after(0.2), Pool(1) as pool:
        future = pool.submit(endless)
        result_of(future)
    assert time.monotonic() - started < 5
    assert isinstance(future.exception(), CancelledError)


def test_the_second_interrupt_does_not_wait_for_a_job_that_never_asks() -> None:
    over = threading.Event()
    started = time.monotonic()
    with interrupts_after(0.2, 0.5), Pool(1) as pool:
        waiting = [pool.submit(over.wait, 60) for _ in range(3)]
        result_of(waiting[0])
    assert time.monotonic() - started < 20
    assert [future.cancelled() for future in waiting] == [False, True, True]
    over.set()
    assert waiting[0].result()


def test_other_threads_hold_nothing() -> None:
    found = []

    def work() -> None:
        with defer_signals():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
