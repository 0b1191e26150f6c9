"""Bounds of time and memory for all tests of hostile files."""

import resource
import time
from pathlib import Path

import pytest

SECONDS = 2.0  # of the CPU


@pytest.fixture(autouse=True)
def _bounded():
    """Neither long nor large, whatever a test reads."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < SECONDS
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} KiB"


@pytest.fixture(scope="module")
def hostile(data_dir: Path) -> Path:
    return data_dir / "hostile"
