"""One model at one number of views, measured when asked: a process of its own.

Questions come as JSON lines on stdin, answers leave as JSON lines on stdout; whatever else is said
goes to stderr. The first question builds the model, each further one is answered by a forward.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import psutil
import torch

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.machine_memory import available_memory
from distill3r_core.nn import fused
from distill3r_core.nn.attention import HOPPER
from distill3r_core.profiling import OutOfRoom, memory_limits, peak_memory
from distill3r_core.stages.benchmark.forwards import Forward, Subject, build_forward

# A matrix product large enough to run at full rate and small enough to be no wait.
PRODUCT_SIDE = {"cuda": 8192, "cpu": 1536}
COPY_BYTES = {"cuda": 2**30, "cpu": 2**27}
RATE_RUNS = 5


def main() -> None:
    """Answer questions until the input ends."""
    with _own_stdout() as answers:
        server: Server | None = None
        for line in sys.stdin:
            question = json.loads(line)
            try:
                with memory_limits():
                    if server is None:
                        server = Server(question)
                        found = server.facts()
                    else:
                        found = server.answer(question["do"])
            except (OutOfRoom, OutOfMemoryError) as error:
                found = {"out_of_memory": str(error).splitlines()[0]}
            answers.write(json.dumps(found) + "\n")
            answers.flush()


class Server:
    """A model that is measured.

    Args:
        question: `subject` (fields of `Subject`), `views`, `size`, `seed` and `memory_bytes`, the
            most memory that may be taken (None: all there is).
    """

    def __init__(self, question: Mapping[str, Any]) -> None:
        self.subject = Subject.from_plain(question["subject"])
        self.device = self.subject.device
        _limit_memory(self.device, question["memory_bytes"])
        self.forward: Forward = build_forward(self.subject)
        generator = torch.Generator().manual_seed(question["seed"])
        rows, columns = question["size"]
        images = torch.rand(1, question["views"], 3, rows, columns, generator=generator)
        # A copy from ordinary memory would be timed instead of the model.
        self.images = images.pin_memory() if self.device.type == "cuda" else images
        self._landing: list[torch.Tensor] = []

    def facts(self) -> dict[str, Any]:
        """What was built, and where."""
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

    def answer(self, what: str) -> dict[str, Any]:
        """`run` a forward, or measure the device's `rates`."""
        return self.run() if what == "run" else self.rates()

    @torch.inference_mode()
    def run(self) -> dict[str, Any]:
        """One forward: its own time, and the time with copies from and to the host."""
        with peak_memory(self.device) as peak:
            begin = time.perf_counter()
            images = self.images.to(self.device, non_blocking=True)
            _wait(self.device)
            start, cpu_start = time.perf_counter(), time.process_time()
            outputs = self.forward(images)
            _wait(self.device)
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
        """Copy to the host, into page-locked memory that the first run takes, as `infer` does."""
        if self.device.type == "cpu":
            return
        pin = self.device.type == "cuda"
        if not self._landing:
            self._landing = [torch.empty_like(o, device="cpu", pin_memory=pin) for o in outputs]
        for place, output in zip(self._landing, outputs, strict=True):
            place.copy_(output, non_blocking=True)
        _wait(self.device)

    @torch.inference_mode()
    def rates(self) -> dict[str, float]:
        """What the device reaches: FLOP/s of a large product, bytes/s of a large copy."""
        side = PRODUCT_SIDE.get(self.device.type, PRODUCT_SIDE["cpu"])
        left, right = (
            torch.randn(side, side, device=self.device, dtype=self.subject.dtype) for _ in range(2)
        )
        block = COPY_BYTES.get(self.device.type, COPY_BYTES["cpu"])
        source = torch.empty(block, dtype=torch.uint8, device=self.device).fill_(1)
        target = torch.empty_like(source)
        product = _best(lambda: torch.matmul(left, right), self.device)
        copy = _best(lambda: target.copy_(source), self.device)
        return {"flop_rate": 2.0 * side**3 / product, "byte_rate": 2.0 * block / copy}


def _best(work: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few runs, in seconds, after one that warms up."""
    times = []
    for _ in range(RATE_RUNS + 1):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def can_limit_memory(device: torch.device) -> bool:
    """Whether a process can be kept from taking more memory than it is given."""
    return device.type == "cuda" or sys.platform == "linux"


def _limit_memory(device: torch.device, most: int | None) -> None:
    """Have an allocation fail that would otherwise drive the machine into its swap space."""
    if device.type == "cuda":
        if most is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            index = torch.cuda.current_device() if device.index is None else device.index
            torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), index)
        return
    if not can_limit_memory(device):
        return
    import resource

    there = available_memory() + psutil.Process().memory_info().rss
    limit = there if most is None else min(most, there)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _own_stdout() -> IO[str]:
    """The pipe to the parent; libraries that print are led to stderr."""
    pipe = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(pipe, "w", encoding="utf-8")


if __name__ == "__main__":
    main()
