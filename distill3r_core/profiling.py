"""Facts about the machine, the choice of a device, time and memory of a block."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Annotated, Any

import psutil
import torch
from pydantic import AfterValidator

from distill3r_core.errors import ConfigError, DeviceError
from distill3r_core.system.interrupts import defer_signals
from distill3r_core.system.machine_facts import machine_facts

DEVICE_NAME = re.compile(r"auto|(cpu|cuda|mps)(:\d+)?")
DEVICES = "auto, cpu, cuda, cuda:1 or mps"

# torch has a class for its allocator of CUDA memory. Its allocators of the machine's memory and of
# Apple's GPU, and the CUDA driver itself, have words only.
_FULL_MEMORY = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory"
    r"|MPS backend out of memory"
    r"|CUDA error: out of memory"
)


class AllocationError(Exception):
    """The memory of the device or of the machine is full; smaller parts may still fit."""


@contextmanager
def memory_limits() -> Iterator[None]:
    """Turn every way of running out of memory into `AllocationError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # Python's own has no text.
        raise AllocationError(str(error) or "the machine's memory is full") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says, in one of many ways, that memory is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _FULL_MEMORY.search(str(error)) is not None


def _device_name(name: str) -> str:
    """The name, if it is the name of a device, present or not."""
    if DEVICE_NAME.fullmatch(name) is None:
        raise ValueError(f"unknown device {name!r} ({DEVICES})")
    return name


DeviceName = Annotated[str, AfterValidator(_device_name)]  # of settings


def pick_device(name: str) -> torch.device:
    """The device called `name`: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        DeviceError: A device that was named is not there; never a silent CPU.
        ConfigError: `name` is not the name of a device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if DEVICE_NAME.fullmatch(name) is None:
        raise ConfigError(f"unknown device {name!r}", hint=DEVICES)
    kind, _, index = name.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' is not there")
    return torch.device(name)


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """Facts about this machine that belong to a measurement, as plain data."""
    facts = {
        **machine_facts(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": str(device or "cpu"),
    }
    if device is not None and device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return facts


def tool_version() -> str:
    """The installed version of distill3r."""
    return metadata.version("distill3r")


@dataclass(frozen=True)
class MemoryUse:
    """Memory in bytes. All but `rss` are the GPU's, None without one."""

    rss: int
    allocated: int | None = None
    reserved: int | None = None
    free: int | None = None
    total: int | None = None


def memory_use(device: torch.device | None = None) -> MemoryUse:
    """Memory of this process, and of its CUDA device where it has one."""
    rss = psutil.Process().memory_info().rss
    if device is None or device.type != "cuda":
        return MemoryUse(rss=rss)
    free, total = torch.cuda.mem_get_info(device)
    return MemoryUse(
        rss=rss,
        allocated=torch.cuda.memory_allocated(device),
        reserved=torch.cuda.memory_reserved(device),
        free=free,
        total=total,
    )


@dataclass
class Peak:
    """Peak memory of a block, set when it ends."""

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device, *, interval: float = 0.01) -> Iterator[Peak]:
    """Measure the peak of a block: allocated bytes on CUDA, resident bytes of the process on a CPU.

    Args:
        interval: Seconds between two samples of the resident size.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    process, stop = psutil.Process(), threading.Event()

    def watch() -> None:
        while not stop.wait(interval):
            peak.bytes = max(peak.bytes, process.memory_info().rss)

    peak.bytes = process.memory_info().rss
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        with defer_signals():  # or the watcher waits for this thread, and this one for it
            stop.set()
            watcher.join()
        peak.bytes = max(peak.bytes, process.memory_info().rss)


@dataclass
class Stopwatch:
    """Wall and CPU seconds of a block."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def stopwatch(device: torch.device) -> Iterator[Stopwatch]:
    """Time a block, waiting for a GPU's queue on both sides."""
    watch = Stopwatch()
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    yield watch
    synchronize(device)
    watch.seconds = time.perf_counter() - wall
    watch.cpu_seconds = time.process_time() - cpu


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread within the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def synchronize(device: torch.device) -> None:
    """Wait until the work of a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
