"""The student's levers on a GPU, one by one: `python docs/benchmarks/gpu_levers.py OUT.json`.

Preset `paper` at random weights, 378x518, bfloat16. Every variant changes one thing of the default
path; medians over runs timed with CUDA events, variants in turns, so that they share the GPU's
clocks. Beside them: where the time goes, the largest kernels, and what a training step takes.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import interpolate, relu_

from distill3r_core.models import build_student, dune_encoder, precision
from distill3r_core.models.compiled import compile_parts
from distill3r_core.models.precision import lower_precision
from distill3r_core.nn import dpt, maps

SIZE = (378, 518)
RUNS = {2: 20, 12: 10, 32: 6, 128: 5}
DEVICE = torch.device("cuda")
REFERENCE_CHUNK = 20  # of the published code
Forward = Callable[[Tensor], Any]


def student(*, lowered: bool = True) -> nn.Module:
    torch.manual_seed(0)
    built = build_student("paper").eval().to(DEVICE)
    return lower_precision(built) if lowered else built


class Autocast(nn.Module):
    """A block that casts nothing itself, as all of the encoder's were before."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, torch.bfloat16):
            return self.block(tokens)


def student_on_timms_blocks() -> nn.Module:
    torch.manual_seed(0)
    built = build_student("paper").eval().to(DEVICE)
    with mock.patch.object(precision, "_own_block", Autocast):
        return lower_precision(built)


@contextmanager
def resizing_anew() -> Iterator[None]:
    """The table of positions is resized by matrices that are made at every forward."""
    with mock.patch.object(dune_encoder, "_kept_resizing", dune_encoder._resizing):
        yield


def without(*names: str) -> Callable[[], Any]:
    """A context in which some of the fused kernels give way to torch's own."""
    plain = {
        "upsample": (dpt, "upsample", _torchs_upsampling),
        "relu": (dpt, "convolve_relu", lambda x, layer: relu_(layer(x))),
        "maps": (maps, "is_fused", lambda x: False),
    }

    @contextmanager
    def around() -> Iterator[None]:
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(mock.patch.object(*plain[name]))
            yield

    return around


def _torchs_upsampling(x: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(x, size, mode="bilinear", align_corners=True)


@contextmanager
def benchmark_mode() -> Iterator[None]:
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


@contextmanager
def tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def nothing() -> Iterator[None]:
    yield


def event_seconds(work: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def measure(variants: dict[str, tuple[Any, Forward]], views: int) -> dict[str, Any]:
    """Medians of all variants, which take turns."""
    images = torch.rand(1, views, 3, *SIZE, device=DEVICE)
    times: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[str, float] = {}
    failed: dict[str, str] = {}
    for turn in range(2 + RUNS[views]):
        for name, (around, forward) in variants.items():
            if name in failed:
                continue
            try:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                with around(), torch.inference_mode():
                    seconds = event_seconds(lambda forward=forward: forward(images))
            except RuntimeError as error:
                failed[name] = str(error).splitlines()[0][:200]
                continue
            if turn >= 2:
                times[name].append(seconds)
                peaks[name] = (torch.cuda.max_memory_allocated() - before) / 1e9
    return {
        name: {
            "median": statistics.median(found),
            "min": min(found),
            "max": max(found),
            "peak_gb": peaks[name],
        }
        if (found := times[name])
        else {"failed": failed.get(name, "?")}
        for name in variants
    }


def inference(counts: list[int]) -> dict[str, Any]:
    own, plain, flash = student(), student(lowered=False), student()
    plain.fusion.kernels = lambda device: nothing()
    flash.fusion.kernels = lambda device: sdpa_kernel(SDPBackend.FLASH_ATTENTION)

    def reference(images: Tensor) -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            return plain(images, reference=True, head_chunk=REFERENCE_CHUNK)

    variants: dict[str, tuple[Any, Forward]] = {
        "reference": (nothing, reference),
        "default": (nothing, own),
        "flash attention": (nothing, flash),
        "torch's upsampling": (without("upsample"), own),
        "convolution, then ReLU": (without("relu"), own),
        "last layer apart": (without("maps"), own),
        "no fused kernels": (without("upsample", "relu", "maps"), own),
        "cudnn.benchmark": (benchmark_mode, own),
        "tf32": (tf32, own),
        "timm's blocks under autocast": (nothing, student_on_timms_blocks()),
        "matrices of the table anew": (resizing_anew, own),
        "global head only": (nothing, lambda images: own(images, head="global")),
        "maps to the host": (nothing, lambda images: own(images, host=True)),
    }
    for chunk in (2, 5, 10, 16):  # of 12 views
        variants[f"head chunk {chunk}"] = (
            nothing,
            lambda images, chunk=chunk: own(images, head_chunk=chunk),
        )
    found = {}
    for views in counts:
        chosen = {k: v for k, v in variants.items() if views == 12 or "chunk" not in k}
        found[views] = measure(chosen, views)
        _print(f"N = {views}", found[views])
    return found


def parts(views: int) -> dict[str, float]:
    """Seconds of encoder, fusion and heads, and the largest kernels."""
    own = student()
    images = torch.rand(1, views, 3, *SIZE, device=DEVICE)
    spent: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            torch.cuda.synchronize()
            begin = time.perf_counter()
            found = call(*args, **kwargs)
            torch.cuda.synchronize()
            spent.setdefault(name, []).append(time.perf_counter() - begin)
            return found

        return run

    with torch.inference_mode():
        for _ in range(3):
            own(images)
        spent.clear()
        with (
            mock.patch.object(own.encoder, "forward", timed("encoder", own.encoder.forward)),
            mock.patch.object(own.fusion, "forward", timed("fusion", own.fusion.forward)),
            mock.patch.object(own.global_head, "forward", timed("heads", own.global_head.forward)),
            mock.patch.object(own.local_head, "forward", timed("heads", own.local_head.forward)),
        ):
            own(images)
    return {name: sum(values) for name, values in spent.items()}


def kernels(work: Callable[[], Any], top: int = 22) -> list[tuple[str, float, int]]:
    """The kernels that take most of the GPU's time: name, milliseconds, calls."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        work()
        torch.cuda.synchronize()
    rows = [
        (row.key[:90], row.self_device_time_total / 1e3, row.count)
        for row in seen.key_averages()
        if row.self_device_time_total > 0 and "cuda" in str(row.device_type).lower()
    ]
    rows.sort(key=lambda row: -row[1])
    total = sum(row[1] for row in rows)
    print(f"kernels: {sum(row[2] for row in rows)}, {total:.1f} ms")
    for name, milliseconds, calls in rows[:top]:
        print(f"  {milliseconds:8.3f} ms {calls:5d} x  {name}")
    return rows[:top]


def compiled(counts: list[int]) -> dict[str, Any]:
    """torch.compile of encoder and heads: seconds to compile, then per forward."""
    own = student()
    images = torch.rand(1, counts[0], 3, *SIZE, device=DEVICE)
    begin = time.perf_counter()
    reason = compile_parts(own, images)
    found: dict[str, Any] = {"compile_seconds": time.perf_counter() - begin, "reason": reason}
    for views in counts:
        found[str(views)] = measure({"compiled": (nothing, own)}, views)["compiled"]
    print("compiled:", found)
    return found


def graphed(views: int) -> dict[str, Any]:
    """The default path replayed from a CUDA graph."""
    own = student()
    images = torch.rand(1, views, 3, *SIZE, device=DEVICE)
    numbers = torch.arange(views, device=DEVICE)[None]
    with torch.inference_mode():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                own(images, view_numbers=numbers)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            own(images, view_numbers=numbers)
        times = [event_seconds(graph.replay) for _ in range(12)][2:]
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def training() -> dict[str, Any]:
    """A step of B = 4, N = 20 at 224x518, by parts, with and without recomputation."""
    from distill3r_core.losses import DistillationLoss
    from distill3r_core.training.settings import OptimSettings
    from distill3r_core.training.step import build_optimizer
    from distill3r_core.types import TeacherTargets

    samples, views, size = 4, 20, (224, 518)
    torch.manual_seed(0)
    net = build_student("paper").train().to(DEVICE)
    optimizer = build_optimizer(net, OptimSettings())
    loss = DistillationLoss()
    images = torch.rand(samples, views, 3, *size, device=DEVICE)
    shape = (samples, views, *size)
    identity = torch.eye(3, 4, device=DEVICE).expand(samples, views, 3, 4).contiguous()
    targets = TeacherTargets(
        points_local=torch.rand(*shape, 3, device=DEVICE) + 1,
        confidence_local=torch.rand(*shape, device=DEVICE) + 1,
        confidence_global=torch.rand(*shape, device=DEVICE) + 1,
        valid_mask=torch.rand(*shape, device=DEVICE) > 0.1,
        global_from_local=identity,
    )
    numbers = torch.arange(views)[None].expand(samples, views)

    def step(recompute: str, chunk: int | None) -> dict[str, float]:
        def now() -> float:
            torch.cuda.synchronize()
            return time.perf_counter()

        optimizer.zero_grad(set_to_none=True)
        times = [now()]
        with torch.autocast("cuda", torch.bfloat16):
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
        torch.cuda.reset_peak_memory_stats()
        try:
            steps = [step(recompute, chunk) for _ in range(6)][2:]
        except torch.OutOfMemoryError as error:
            found[name] = {"failed": str(error)[:150]}
            continue
        found[name] = {key: statistics.median(s[key] for s in steps) for key in steps[0]}
        found[name]["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        found[name]["reserved_gb"] = torch.cuda.max_memory_reserved() / 1e9
        print(name, {key: round(value, 4) for key, value in found[name].items()}, flush=True)
    torch.backends.cudnn.benchmark = False
    found["kernels"] = kernels(lambda: step("none", 20), top=30)
    return found


def _print(title: str, rows: dict[str, Any]) -> None:
    print(title, flush=True)
    for name, row in rows.items():
        if "failed" in row:
            print(f"  {name:24s} {row['failed']}")
        else:
            print(
                f"  {name:24s} {row['median'] * 1e3:9.2f} ms "
                f"({row['min'] * 1e3:.2f} .. {row['max'] * 1e3:.2f})  {row['peak_gb']:.2f} GB"
            )


def main(target: Path, wanted: set[str]) -> None:
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    sections: dict[str, Callable[[], Any]] = {
        "parts": lambda: {views: parts(views) for views in (12, 128)},
        "inference": lambda: inference([2, 12, 128]),
        "kernels": lambda: kernels(_default_forward(12)),
        "graphed": lambda: {2: graphed(2), 12: graphed(12)},
        "training": training,
        "compiled": lambda: compiled([12, 2, 128]),
    }
    for name, section in sections.items():
        if wanted and name not in wanted:
            continue
        print(f"== {name}", flush=True)
        try:
            found[name] = section()
            if name in ("parts", "graphed"):
                print(found[name], flush=True)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            found[name] = {"failed": repr(error)[:500]}
            print(name, "failed:", repr(error)[:800], flush=True)
        torch.cuda.empty_cache()
        target.write_text(json.dumps(found, indent=1, default=str))


def _default_forward(views: int) -> Callable[[], Any]:
    own = student()
    images = torch.rand(1, views, 3, *SIZE, device=DEVICE)

    def run() -> Any:
        with torch.inference_mode():
            return own(images)

    run()
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1]), set(sys.argv[2:]))
