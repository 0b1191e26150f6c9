"""Run a task again and again, each time with a signal one moment later.

A moment is a call or a return in Python's modules of threads, and in ours that hold signals: an
error that is raised there leaves locks and handlers as they are. Run as `python interrupted.py TASK
EVERY FOLDER` for every EVERY-th moment; prints how many that were, and ends with tracebacks of all
threads where one of them hangs. Ctrl-C and SIGTERM come in turns.
"""

import contextlib
import faulthandler
import itertools
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import _base, thread
from functools import partial
from pathlib import Path
from types import FrameType

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.loader import RingLoader
from distill3r_core.data.loading.sample_requests import SampleRequest
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.io.images.inputs import find_inputs
from distill3r_core.reconstruction.loaded_views import load_views
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.manifest import ManifestSettings, build_manifest
from distill3r_core.system import interrupts, threads
from distill3r_core.system.threads import Pool, ahead, result_of

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LONGEST = 60.0  # seconds until a task hangs, on a machine that does other things too
_WHERE = {module.__file__ for module in (_base, thread, threading, contextlib, interrupts, threads)}


def pool(folder: Path) -> None:
    """Two threads that take turns with the main one."""
    with Pool(2) as workers:
        begun = ahead(lambda number: workers.submit(divmod, number, 3), range(6), 2)
        assert [result_of(each)[0] for each in begun] == [0, 0, 0, 1, 1, 1]


def manifest(folder: Path) -> None:
    """Frames that are processed by threads."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    settings = ManifestSettings(
        roots=(folder / "photos",), output=folder / "data", resize_max=56, views=3
    )
    assert build_manifest(settings).result["scenes"] == 1


def cache(folder: Path) -> None:
    """Samples that are read, packed and stored by threads."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    settings = CacheSettings(
        manifest=folder / "data" / "manifest.csv",
        output=folder / "cache",
        teacher="synthetic",
        size="14x28",
    )
    assert build_cache(settings).result["finished"] == 3


def loader(folder: Path) -> None:
    """Batches that are read by threads."""
    stored = TeacherCache(folder / "cache")
    wanted = [[SampleRequest(name, (0, 1))] for name in stored.names()]
    with RingLoader(stored) as ring:
        assert sum(1 for _ in ring.batches(wanted)) == len(wanted)


def pictures(folder: Path) -> None:
    """Pictures that are decoded by threads."""
    sources = find_inputs([str(folder / "photos")]).sources
    assert len(load_views(sources, ImageFit(size=(14, 28))).views) == 6


TASKS = {each.__name__: each for each in (pool, manifest, cache, loader, pictures)}


def moments(task: Callable[[], None], every: int) -> int:
    """At how many moments the task was interrupted, once each."""
    task()  # what it imports is there from now on
    for turn, number in enumerate(itertools.count(1, every)):
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        for signum in SIGNALS:
            signal.signal(signum, signal.default_int_handler)
        interrupted = _interrupted(task, number, SIGNALS[turn % 2])
        for signum in SIGNALS:
            assert _is_answered(signum), f"moment {number}: signal {signum} is lost from now on"
        while threading.active_count() > 1:  # a pool that was left is cleared away with its threads
            time.sleep(0.001)
        faulthandler.cancel_dump_traceback_later()
        if not interrupted:
            return number // every
    raise AssertionError


def _is_answered(signum: signal.Signals) -> bool:
    try:
        signal.raise_signal(signum)
    except KeyboardInterrupt:
        return True
    return False


def _interrupted(task: Callable[[], None], number: int, signum: signal.Signals) -> bool:
    passed = 0

    def meet(frame: FrameType, event: str, _: object) -> None:
        nonlocal passed
        if event in ("call", "return") and frame.f_code.co_filename in _WHERE:
            passed += 1
            if passed == number:
                signal.raise_signal(signum)

    sys.setprofile(meet)
    try:
        task()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    assert passed < number, "the interrupt was lost"
    return False


if __name__ == "__main__":
    _, chosen, every, folder = sys.argv
    print(moments(partial(TASKS[chosen], Path(folder)), int(every)))
