"""What is freed stays: blocks that are asked for again touch no new page."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)

# A process of its own: the setting holds for the whole of it. Three blocks of 64 MB, one by one.
PROGRAM = """
import resource, sys
from distill3r_core.system.allocator import keep_freed_memory
if "much" in sys.argv:
    keep_freed_memory(block=1 << 30, kept=(1 << 31) - 1)
if "little" in sys.argv:
    keep_freed_memory(block=1 << 22, kept=1 << 28)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
import numpy
for _ in range(3):
    before = faults()
    numpy.empty(1 << 26, numpy.uint8).fill(1)
    print(faults() - before)
"""


def faults_of(*asked: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *asked], capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


def test_only_the_first_block_costs_page_faults():
    first, *others = faults_of("much")
    assert max(others) < first / 10
    assert min(faults_of()) > max(others)  # without it every block does


def test_who_asks_for_less_later_takes_nothing_from_who_asked_for_more():
    first, *others = faults_of("much", "little")
    assert max(others) < first / 10
    assert min(faults_of("little")) > max(others)  # which alone is too little for these blocks
