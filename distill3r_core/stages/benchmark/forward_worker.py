"""Worker process that times one model at one number of views."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import torch

from distill3r_core.nn.attention import HOPPER
from distill3r_core.nn.kernels import fused
from distill3r_core.profiling import peak_memory, synchronize
from distill3r_core.stages.benchmark.models import BenchModel, Forward
from distill3r_core.stages.benchmark.worker_process import Answer, serve
from distill3r_core.system.machine_memory import available_memory

# A matrix product large enough to run at full rate and small enough to be no wait.
PRODUCT_SIDE = {"cuda": 8192, "cpu": 1536}
COPY_BYTES = {"cuda": 2**30, "cpu": 2**27}
RATE_RUNS = 5


def main() -> None:
    """The first request builds the model, each further one is answered by a measurement."""
    server: Server | None = None

    def handle(request: Answer, send: Callable[[Answer], None]) -> Answer:
        nonlocal server
        if server is None:
            server = Server(request)
            return server.facts()
        return server.run() if request["do"] == "run" else server.rates()

    serve(handle)


class Server:
    """A model with its input.

    Args:
        request: `model` (`BenchModel.as_plain`), `views`, `seed` and `memory_bytes`, the most
            memory that the process may take (None: all there is).
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.model = BenchModel.from_plain(request["model"])
        self.device = self.model.device
        _limit_memory(self.device, request["memory_bytes"])
        self.forward: Forward = self.model.build_forward()
        generator = torch.Generator().manual_seed(request["seed"])
        images = torch.rand(1, request["views"], 3, *self.model.size, generator=generator)
        # A copy from ordinary memory would be timed instead of the model.
        self.images = images.pin_memory() if self.device.type == "cuda" else images
        self._landing: list[torch.Tensor] = []

    def facts(self) -> dict[str, Any]:
        """Threads and kernels of the process."""
        hopper = (
            self.device.type == "cuda"
            and torch.cuda.get_device_capability(self.device)[0] >= HOPPER
        )
        return {
            "threads": torch.get_num_threads(),
            "attention": f"SDPA, {'cuDNN first' if hopper else 'kernel chosen by torch'}",
            "heads": "fused kernels"
            if self.device.type == "cuda" and fused.kernels_work()
            else None,
        }

    @torch.inference_mode()
    def run(self) -> dict[str, Any]:
        """Time one forward, without and with the copies from and to the host."""
        with peak_memory(self.device) as peak:
            begin = time.perf_counter()
            images = self.images.to(self.device, non_blocking=True)
            synchronize(self.device)
            start, cpu_start = time.perf_counter(), time.process_time()
            outputs = self.forward(images)
            synchronize(self.device)
            stop, cpu_stop = time.perf_counter(), time.process_time()
            self._fetch(outputs)
            end = time.perf_counter()
        reserved = None
        if self.device.type == "cuda":
            reserved = torch.cuda.max_memory_reserved(self.device)
        return {
            "seconds": stop - start,
            "cpu_seconds": cpu_stop - cpu_start,
            "end_to_end_seconds": end - begin,
            "peak_bytes": peak.bytes,
            "peak_reserved_bytes": reserved,
        }

    def _fetch(self, outputs: Sequence[torch.Tensor]) -> None:
        """Copy to the host, into page-locked memory of the first run, as `infer` does."""
        if self.device.type == "cpu":
            return
        pin = self.device.type == "cuda"
        if not self._landing:
            self._landing = [torch.empty_like(o, device="cpu", pin_memory=pin) for o in outputs]
        for target, output in zip(self._landing, outputs, strict=True):
            target.copy_(output, non_blocking=True)
        synchronize(self.device)

    @torch.inference_mode()
    def rates(self) -> dict[str, float]:
        """Measure the device: FLOP/s of a large matrix product, bytes/s of a large copy."""
        side = PRODUCT_SIDE.get(self.device.type, PRODUCT_SIDE["cpu"])
        left, right = (
            torch.randn(side, side, device=self.device, dtype=self.model.dtype) for _ in range(2)
        )
        block = COPY_BYTES.get(self.device.type, COPY_BYTES["cpu"])
        source = torch.empty(block, dtype=torch.uint8, device=self.device).fill_(1)
        target = torch.empty_like(source)
        product = _best(lambda: torch.matmul(left, right), self.device)
        copy = _best(lambda: target.copy_(source), self.device)
        return {"flop_rate": 2.0 * side**3 / product, "byte_rate": 2.0 * block / copy}


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Shortest time of a few runs, in seconds, after a warm-up."""
    times = []
    for _ in range(RATE_RUNS + 1):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def can_limit_memory(device: torch.device) -> bool:
    """Whether the memory of a process can be limited."""
    return device.type == "cuda" or sys.platform == "linux"


def _limit_memory(device: torch.device, most: int | None) -> None:
    """Make an allocation fail that would otherwise drive the machine into its swap space."""
    if device.type == "cuda":
        if most is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), index)
        return
    if not can_limit_memory(device):
        return
    import resource

    available = available_memory() + psutil.Process().memory_info().rss
    limit = available if most is None else min(most, available)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
