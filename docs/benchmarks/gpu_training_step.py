"""A training step on a GPU by parts, with and without recomputation (for `gpu_levers.py`)."""

import statistics
import time
from typing import Any

import torch
from gpu_setup import Setup, kernels
from torch import nn

from distill3r_core.losses import DistillationLoss
from distill3r_core.models import build_student
from distill3r_core.profiling import peak_memory
from distill3r_core.training.settings import OptimSettings
from distill3r_core.training.step import build_optimizer
from distill3r_core.types import TeacherTargets


def training(setup: Setup) -> dict[str, Any]:
    """A step, by parts, with and without recomputation."""
    (samples, views, *size), device = setup.batch, setup.device
    torch.manual_seed(0)
    net = build_student(setup.preset).train().to(device)
    optimizer = build_optimizer(net, OptimSettings())
    loss = DistillationLoss()
    images = torch.rand(samples, views, 3, *size, device=device)
    shape = (samples, views, *size)
    identity = torch.eye(3, 4, device=device).expand(samples, views, 3, 4).contiguous()
    targets = TeacherTargets(
        points_local=torch.rand(*shape, 3, device=device) + 1,
        confidence_local=torch.rand(*shape, device=device) + 1,
        confidence_global=torch.rand(*shape, device=device) + 1,
        valid_mask=torch.rand(*shape, device=device) > 0.1,
        global_from_local=identity,
    )
    numbers = torch.arange(views)[None].expand(samples, views)

    def step(recompute: str, chunk: int | None) -> dict[str, float]:
        def now() -> float:
            setup.wait()
            return time.perf_counter()

        optimizer.zero_grad(set_to_none=True)
        times = [now()]
        with torch.autocast(device.type, torch.bfloat16):
            maps = net(images, view_numbers=numbers, head_chunk=chunk, recompute=recompute)
        times.append(now())
        total = loss(maps, targets).total
        times.append(now())
        total.backward()
        times.append(now())
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        times.append(now())
        names = ("forward", "loss", "backward", "optimizer")
        return {
            name: after - before
            for name, before, after in zip(names, times, times[1:], strict=False)
        } | {"all": times[-1] - times[0]}

    found: dict[str, Any] = {}
    for name, recompute, chunk, fast in (
        ("default", "none", 20, False),
        ("chunk 80", "none", 80, False),
        ("cudnn.benchmark", "none", 20, True),
        ("recompute heads", "heads", 20, False),
        ("recompute all", "all", 8, False),
    ):
        torch.backends.cudnn.benchmark = fast
        torch.cuda.empty_cache()
        try:
            with peak_memory(device) as peak:
                steps = [step(recompute, chunk) for _ in range(6)][2:]
        except torch.OutOfMemoryError as error:
            found[name] = {"failed": str(error)[:150]}
            continue
        found[name] = {key: statistics.median(s[key] for s in steps) for key in steps[0]}
        found[name]["peak_gb"] = peak.bytes / 1e9
        if setup.on_gpu:
            found[name]["reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
        print(name, {key: round(value, 4) for key, value in found[name].items()}, flush=True)
    torch.backends.cudnn.benchmark = False
    found["kernels"] = kernels(setup, lambda: step("none", 20), top=30)
    return found
