"""What the scripts that measure on a GPU share: how much is measured, and the kernels of a pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Setup:
    """How much is measured.

    Args:
        device: Where.
        preset: Of the student.
        size: Rows and columns of a view.
        runs: Timed ones, by number of views.
        middle: The number of views whose kernels and chunks of heads are looked at.
        batch: Samples, views, rows and columns of a training step.
    """

    device: torch.device
    preset: str
    size: tuple[int, int]
    runs: dict[int, int]
    middle: int
    batch: tuple[int, int, int, int]

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def images(self, views: int) -> Tensor:
        return torch.rand(1, views, 3, *self.size, device=self.device)

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


def setup_of(device: str, preset: str) -> Setup:
    if device == "cuda":
        runs = {2: 20, 12: 10, 128: 5}
        return Setup(torch.device(device), preset, (378, 518), runs, 12, (4, 20, 224, 518))
    return Setup(torch.device(device), preset, (28, 42), {2: 1, 3: 1}, 3, (1, 2, 28, 42))


def kernels(setup: Setup, work: Callable[[], Any], top: int = 22) -> list[tuple[str, float, int]]:
    """The kernels that take most of the device's time: name, milliseconds, calls."""
    from torch.profiler import ProfilerActivity, profile

    gpu = [ProfilerActivity.CUDA] if setup.on_gpu else []
    with profile(activities=[*gpu, ProfilerActivity.CPU]) as seen:
        work()
        setup.wait()
    spent = "self_device_time_total" if setup.on_gpu else "self_cpu_time_total"
    rows = [
        (row.key[:90], getattr(row, spent) / 1e3, row.count)
        for row in seen.key_averages()
        if getattr(row, spent) > 0 and setup.device.type in str(row.device_type).lower()
    ]
    rows.sort(key=lambda row: -row[1])
    total = sum(row[1] for row in rows)
    print(f"kernels: {sum(row[2] for row in rows)}, {total:.1f} ms")
    for name, milliseconds, calls in rows[:top]:
        print(f"  {milliseconds:8.3f} ms {calls:5d} x  {name}")
    return rows[:top]
