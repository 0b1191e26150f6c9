"""What one training loop costs: the time of its steps, its memory, its kernels."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from distill3r_core import profiling
from distill3r_core.benchmarks.training.step_loops import Parts
from distill3r_core.data.batches import Batch
from distill3r_core.profiling import OutOfRoom, memory_limits

_COPIES = ("Memcpy", "Memset")


@dataclass
class Contestant:
    """A loop while it is measured; once its memory does not suffice, it is out.

    Args:
        step: Takes a step.
        let_go: Gives back what a step that did not fit has left.
        device: Where it computes.
    """

    step: Callable[[Batch], Parts]
    let_go: Callable[[], None]
    device: torch.device
    out_of_memory: str | None = None
    timed: list[Parts] = field(default_factory=list)
    _peak: dict[str, int] = field(default_factory=dict)
    _kernels: int | None = None

    @property
    def out(self) -> bool:
        """Whether its memory did not suffice."""
        return self.out_of_memory is not None

    @property
    def median(self) -> float:
        """Seconds of computing of a step that counts."""
        return statistics.median(parts.seconds for parts in self.timed)

    def examine(self, batch: Batch) -> None:
        """Measure the memory of a step, and on a GPU count its kernels in another."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # what others have reserved is not this loop's
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

    def attempt(self, batch: Batch) -> Parts | None:
        """Take a step that counts for nothing, unless the loop is out."""
        if self.out:
            return None
        try:
            with memory_limits():
                return self.step(batch)
        except OutOfRoom as error:
            self.out_of_memory = str(error).splitlines()[0]
        self.let_go()  # not sooner: the error holds what the step has allocated
        return None

    def time(self, batch: Batch) -> None:
        """Take a step that counts."""
        parts = self.attempt(batch)
        if parts is not None:
            self.timed.append(parts)

    def figures(self) -> dict[str, Any]:
        """Medians of the parts; median and range of a step's computing; memory and kernels."""
        if self.out:
            return {"out_of_memory": self.out_of_memory}
        seconds = [parts.seconds for parts in self.timed]
        medians = {
            name: statistics.median(getattr(parts, name) for parts in self.timed)
            for name in asdict(self.timed[0])
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
