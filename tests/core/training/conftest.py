"""Fixtures of the tests of training."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_caches import write_cache


@pytest.fixture(scope="session")
def make_cache() -> Callable[..., Path]:
    """Write a cache: make_cache(folder, sizes=[...], held_out=2, views=4)."""
    return write_cache
