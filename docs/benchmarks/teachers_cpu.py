"""What teachers take on one CPU thread, beside students; and the load of VGGT's weights.

    python docs/benchmarks/teachers_cpu.py forward --runs 5 -o forward.json
    python docs/benchmarks/teachers_cpu.py load --folder SCRATCH -o load.json

`forward` runs networks with random weights on 4 views of 504x378 and compares their CPU-seconds
with their counted FLOP over the rate of a large matrix product, which is measured in turns with
them in the same process. CPU-seconds, not wall time: other work on the machine moves them less.

`load` writes a file of the official layout (5 GB, removed afterwards) with random numbers, and
reads it in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from distill3r_core import profiling
from distill3r_core.models import build_student
from distill3r_core.models.families import family_of
from distill3r_core.nn.counts import total_flop
from distill3r_core.nn.names import rename, reverse
from distill3r_core.profiling import peak_memory
from distill3r_core.system.allocator import keep_freed_memory
from distill3r_core.teachers import TEACHERS
from distill3r_core.teachers.da3.network import DA3
from distill3r_core.teachers.vggt.names import NAMES
from distill3r_core.teachers.vggt.network import VGGT
from distill3r_core.teachers.vggt.teacher import load_vggt

VIEWS, SIZE, SMALL_SIZE = 4, (378, 504), (112, 154)  # rows and columns
SIDE, PRODUCTS = 1536, 3  # of the matrix product that gives the rate
CPU = torch.device("cpu")
HEADER_BYTES = 2**20  # a safetensors header is far shorter


def product_rate() -> float:
    """FLOP per CPU-second of a large matrix product, the best of a few."""
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    rates = []
    for _ in range(PRODUCTS):
        begin = time.process_time()
        torch.matmul(left, right)
        rates.append(2 * SIDE**3 / (time.process_time() - begin))
    return max(rates)


def networks() -> dict[str, tuple[Callable[[], object], float, int | None]]:
    """Forward, FLOP and estimated bytes of every network that is timed."""
    record = TEACHERS["da3-small"]
    assert record.cost is not None
    torch.manual_seed(0)
    da3 = DA3(record.cost.published).eval()
    keep_freed_memory(block=1 << 30, kept=1 << 30)  # as the teacher does
    images = torch.rand(1, VIEWS, 3, *SIZE)
    settings = record.read_settings({})
    found: dict[str, tuple[Callable[[], object], float, int | None]] = {
        "da3-small": (
            lambda: da3(images),
            total_flop(record.cost.flop(record.cost.published, VIEWS, SIZE, settings=settings)),
            record.cost.memory(record.cost.published, VIEWS, SIZE, settings=settings).total,
        )
    }
    for preset, size in (("paper", SIZE), ("small", SMALL_SIZE)):
        found[preset] = student(preset, size)
    return found


def student(preset: str, size: tuple[int, int]) -> tuple[Callable[[], object], float, int | None]:
    """The same of a student with random weights."""
    model = build_student(preset).eval()
    images = torch.rand(1, VIEWS, 3, *size)
    cost = family_of(model.spec).cost
    return (
        lambda: model(images),
        total_flop(cost.flop(model.spec, VIEWS, size)),
        cost.memory(model.spec, [size] * VIEWS, device=CPU).total,
    )


@torch.inference_mode()
def forward(runs: int) -> dict[str, Any]:
    """CPU-seconds of every network over those of its FLOP at the rate of a matrix product."""
    torch.set_num_threads(1)
    results = {}
    for name, (run, flop, estimate) in networks().items():
        run()  # a warm-up
        ratios, seconds, rates = [], [], []
        with peak_memory(CPU) as peak:
            for _ in range(runs):
                rate = product_rate()
                begin = time.process_time()
                run()
                seconds.append(time.process_time() - begin)
                rate = max(rate, product_rate())
                rates.append(rate)
                ratios.append(seconds[-1] * rate / flop)
        results[name] = {
            "gflop": flop / 1e9,
            "cpu_seconds": statistics.median(seconds),
            "cpu_seconds_all": seconds,
            "rate_gflop": statistics.median(rates) / 1e9,
            "ratio": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
            "process_peak_bytes": peak.bytes,
            "estimated_bytes": estimate,
        }
        print(name, json.dumps(results[name]), flush=True)
    return results


def load(folder: Path) -> dict[str, Any]:
    """Seconds and memory of reading a file of VGGT's size."""
    from safetensors.torch import save_file

    file = folder / "model.safetensors"
    try:
        with torch.device("meta"):
            network = VGGT()
        state = {}
        for name, tensor in rename(network.state_dict(), reverse(NAMES)).items():
            state[name] = torch.empty(tensor.shape).normal_(std=0.02)
        numbers = sum(tensor.numel() for tensor in state.values())
        save_file(state, file)
        del state
        command = [sys.executable, __file__, "read", "--folder", str(folder)]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(3)]
    finally:
        file.unlink(missing_ok=True)
    return {"parameters": numbers, "file_bytes": 4 * numbers + HEADER_BYTES, "runs": runs}


def read(folder: Path) -> dict[str, Any]:
    """One load, in this process."""
    before = psutil.Process().memory_info().rss
    begin = time.perf_counter()
    with peak_memory(CPU) as peak:
        network = load_vggt(folder, CPU, points=False)
        loaded = time.perf_counter() - begin
        sum(float(tensor.flatten()[0]) for tensor in network.parameters())
    return {"seconds": loaded, "before_bytes": before, "peak_bytes": peak.bytes}


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("forward", "load", "read"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    result: dict[str, Any]
    if given.what == "forward":
        result = forward(given.runs)
    else:
        result = load(given.folder) if given.what == "load" else read(given.folder)
    if given.what != "read":
        result = {"machine": profiling.machine(CPU), "result": result}
    text = json.dumps(result)
    print(text)
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
