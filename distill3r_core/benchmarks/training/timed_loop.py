"""The cost of one training loop: time of its steps, memory, kernels."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from distill3r_core import profiling
from distill3r_core.benchmarks.training.step_loops import StepTiming
from distill3r_core.data.loading.batches import Batch
from distill3r_core.profiling import AllocationError, memory_limits

_COPIES = ("Memcpy", "Memset")


@dataclass
class TimedLoop:
    """A loop that is measured, until a step runs out of memory."""

    step: Callable[[Batch], StepTiming]
    release_memory: Callable[[], None]  # frees what a step that ran out of memory left behind
    device: torch.device
    out_of_memory: str | None = None
    timings: list[StepTiming] = field(default_factory=list)
    _peak: dict[str, int] = field(default_factory=dict)
    _kernels: int | None = None

    @property
    def median(self) -> float:
        """Median seconds of computing of a timed step."""
        return statistics.median(timing.seconds for timing in self.timings)

    def measure_memory(self, batch: Batch) -> None:
        """Measure the memory of a step, and on a GPU count the kernels of another."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # memory that other loops reserved is not this one's
        with profiling.peak_memory(self.device) as peak:
            self.attempt(batch)
        if self.device.type != "cuda":
            self._peak = {"resident": peak.bytes}
            return
        self._peak = {
            "allocated": peak.bytes,
            "reserved": torch.cuda.max_memory_reserved(self.device),
        }
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            self.attempt(batch)
            torch.cuda.synchronize(self.device)
        self._kernels = sum(
            event.device_type.name == "CUDA"
            and not event.is_user_annotation
            and not event.name.startswith(_COPIES)
            for event in record.events() or ()
        )

    def attempt(self, batch: Batch) -> StepTiming | None:
        """Take a step that is not recorded; None where it runs, or one has run, out of memory."""
        if self.out_of_memory is not None:
            return None
        try:
            with memory_limits():
                return self.step(batch)
        except AllocationError as error:
            self.out_of_memory = str(error).splitlines()[0]
        self.release_memory()  # after the handler: the error keeps what the step allocated
        return None

    def time(self, batch: Batch) -> None:
        """Take a step that is recorded."""
        timing = self.attempt(batch)
        if timing is not None:
            self.timings.append(timing)

    def figures(self) -> dict[str, Any]:
        """Medians of the parts; median and range of a step's computing; memory and kernels."""
        if self.out_of_memory is not None:
            return {"out_of_memory": self.out_of_memory}
        seconds = [timing.seconds for timing in self.timings]
        medians = {
            name: statistics.median(getattr(timing, name) for timing in self.timings)
            for name in asdict(self.timings[0])
        }
        return {
            **medians,
            "seconds": {
                "median": self.median,
                "least": min(seconds),
                "most": max(seconds),
            },
            "peak_bytes": self._peak,
            "kernels": self._kernels,
            "out_of_memory": None,
        }
