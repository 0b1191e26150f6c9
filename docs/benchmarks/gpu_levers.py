"""The student's levers on a GPU, one by one: `python docs/benchmarks/gpu_levers.py OUT.json`.

Preset `paper` at random weights, 378x518, bfloat16. Every variant changes one thing of the default
path; medians over runs, variants in turns, so that they share the GPU's clocks. Beside them: where
the time goes, the largest kernels, and what a training step takes. With `--device cpu` (and a small
preset) all of it is done in little, to see that it runs.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gpu_setup import Setup, kernels, setup_of
from gpu_training_step import training
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import interpolate, relu_

from distill3r_core.models import build_student
from distill3r_core.models.encoders import dune_network
from distill3r_core.models.multiview.published import published_forward
from distill3r_core.models.precision import lower_precision
from distill3r_core.nn import dino, dpt, maps
from distill3r_core.nn.kernels.fused import maps_of, upsample
from distill3r_core.profiling import peak_memory

WARMUPS = 2
REFERENCE_CHUNK = 20  # of the published code
Forward = Callable[[Tensor], Any]


def student(setup: Setup, *, lowered: bool = True) -> nn.Module:
    torch.manual_seed(0)
    built = build_student(setup.preset).eval().to(setup.device)
    return lower_precision(built) if lowered else built


class Autocast(nn.Module):
    """A block that casts nothing itself, as all of the encoder's were before."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, torch.bfloat16):
            return self.block(tokens)


def student_on_timms_blocks(setup: Setup) -> nn.Module:
    with mock.patch.object(dune_network, "_own_block", Autocast):
        return student(setup)


@contextmanager
def resizing_anew() -> Iterator[None]:
    """The table of positions is resized by matrices that are made at every forward."""
    with mock.patch.object(dino, "_kept_matrix", dino._resizing_matrix):
        yield


def without(*names: str) -> Callable[[], Any]:
    """A context in which some of the fused kernels give way to torch's own."""
    plain = {
        "upsample": [
            (dpt, "upsample", _torchs_upsampling),
            (dpt, "convolve_upsample", lambda x, conv, size: _torchs_upsampling(conv(x), size)),
        ],
        "late bias": [(dpt, "convolve_upsample", lambda x, conv, size: upsample(conv(x), size))],
        "relu": [(dpt, "convolve_relu", lambda x, layer: relu_(layer(x)))],
        "late relu": [(maps, "maps_of", _relu_then_maps)],
        "maps": [(maps, "is_fused", lambda x: False)],
    }

    @contextmanager
    def around() -> Iterator[None]:
        with ExitStack() as stack:
            for name in names:
                for replacement in plain[name]:
                    stack.enter_context(mock.patch.object(*replacement))
            yield

    return around


def _torchs_upsampling(x: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(x, size, mode="bilinear", align_corners=True)


def _relu_then_maps(features: Tensor, before: Tensor, out: nn.Conv2d) -> Any:
    """Bias and ReLU in a pass of their own before the last kernel, which then adds nothing."""
    from distill3r_core.nn.kernels.fused_kernels import add_relu

    return maps_of(add_relu(features, before), torch.zeros_like(before), out)


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


def seconds_of(setup: Setup, work: Callable[[], Any]) -> float:
    if not setup.on_gpu:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def measure(setup: Setup, variants: dict[str, tuple[Any, Forward]], views: int) -> dict[str, Any]:
    """Medians of all variants, which take turns."""
    images = setup.images(views)
    times: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[str, float] = {}
    failed: dict[str, str] = {}
    for turn in range(WARMUPS + setup.runs[views]):
        for name, (around, forward) in variants.items():
            if name in failed:
                continue
            try:
                before = torch.cuda.memory_allocated() if setup.on_gpu else 0
                with peak_memory(setup.device) as peak, around(), torch.inference_mode():
                    seconds = seconds_of(setup, lambda forward=forward: forward(images))
            except RuntimeError as error:
                failed[name] = str(error).splitlines()[0][:200]
                continue
            if turn >= WARMUPS:
                times[name].append(seconds)
                peaks[name] = (peak.bytes - before) / 1e9
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


def inference(setup: Setup) -> dict[str, Any]:
    own, plain, flash = student(setup), student(setup, lowered=False), student(setup)
    plain.fusion.kernels = lambda device: nullcontext()
    flash.fusion.kernels = lambda device: sdpa_kernel(SDPBackend.FLASH_ATTENTION)

    def reference(images: Tensor) -> Any:
        with torch.autocast(setup.device.type, torch.bfloat16):
            return published_forward(plain, images, head_chunk=REFERENCE_CHUNK)

    variants: dict[str, tuple[Any, Forward]] = {
        "reference": (nullcontext, reference),
        "default": (nullcontext, own),
        "flash attention": (nullcontext, flash),
        "torch's upsampling": (without("upsample"), own),
        "convolution, then ReLU": (without("relu"), own),
        "last layer apart": (without("maps"), own),
        "bias before the last upsampling": (without("late bias"), own),
        "last ReLU apart": (without("late relu"), own),
        "no fused kernels": (without("upsample", "relu", "maps"), own),
        "cudnn.benchmark": (benchmark_mode, own),
        "tf32": (tf32, own),
        "timm's blocks under autocast": (nullcontext, student_on_timms_blocks(setup)),
        "matrices of the table anew": (resizing_anew, own),
        "global head only": (nullcontext, lambda images: own(images, head="global")),
        "maps to the host": (nullcontext, lambda images: own(images, host=True)),
    }
    for chunk in (2, 5, 10, 16):  # of the middle number of views
        variants[f"head chunk {chunk}"] = (
            nullcontext,
            lambda images, chunk=chunk: own(images, head_chunk=chunk),
        )
    found = {}
    for views in setup.runs:
        chosen = {k: v for k, v in variants.items() if views == setup.middle or "chunk" not in k}
        found[views] = measure(setup, chosen, views)
        _print(f"N = {views}", found[views])
    return found


def parts(setup: Setup, views: int) -> dict[str, float]:
    """Seconds of encoder, fusion and heads."""
    own, images = student(setup), setup.images(views)
    spent: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            setup.wait()
            begin = time.perf_counter()
            found = call(*args, **kwargs)
            setup.wait()
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


def main(target: Path, wanted: set[str], setup: Setup) -> None:
    name = torch.cuda.get_device_name() if setup.on_gpu else "cpu"
    found: dict[str, Any] = {"device": name, "preset": setup.preset, "torch": torch.__version__}
    many = max(setup.runs)
    sections: dict[str, Callable[[], Any]] = {
        "parts": lambda: {views: parts(setup, views) for views in (setup.middle, many)},
        "inference": lambda: inference(setup),
        "kernels": lambda: kernels(setup, _default_forward(setup)),
        "training": lambda: training(setup),
    }
    for name, section in sections.items():
        if wanted and name not in wanted:
            continue
        print(f"== {name}", flush=True)
        try:
            found[name] = section()
            if name == "parts":
                print(found[name], flush=True)
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:
            found[name] = {"failed": repr(error)[:500]}
            print(name, "failed:", repr(error)[:800], flush=True)
        torch.cuda.empty_cache()
        target.write_text(json.dumps(found, indent=1, default=str))


def _default_forward(setup: Setup) -> Callable[[], Any]:
    own, images = student(setup), setup.images(setup.middle)

    def run() -> Any:
        with torch.inference_mode():
            return own(images)

    run()
    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, help="JSON that is written")
    parser.add_argument("sections", nargs="*", help="parts, inference, ...; all without")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--preset", default="paper")
    given = parser.parse_args()
    main(given.target, set(given.sections), setup_of(given.device, given.preset))
