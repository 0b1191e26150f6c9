"""Teachers on a GPU: bfloat16 against float32, and seconds and memory by number of views.

    python docs/benchmarks/gpu_teachers.py -o docs/benchmarks/gpu_teachers.json

Networks have random weights, so nothing has to be downloaded: the figures are those of speed and of
rounding, not of quality. Every teacher with a network is taken, at the size to which it brings
images of 384x512. `--table` prints the rows of docs/benchmarks.md from a result.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill3r_core import profiling
from distill3r_core.io.images.teacher_fit import teacher_placement
from distill3r_core.nn.counts import total_flop
from distill3r_core.profiling import AllocationError, peak_memory, synchronize
from distill3r_core.teachers import TEACHERS
from distill3r_core.teachers.da3.backbone import DA3Size
from distill3r_core.teachers.da3.network import DA3
from distill3r_core.teachers.pairwise.graph import pairs_of
from distill3r_core.teachers.pairwise.network import PairNetwork, PairSize
from distill3r_core.teachers.pi3.network import Pi3, Pi3Size
from distill3r_core.teachers.vggt.network import VGGT, VGGTSize

VIEWS = (2, 4, 8, 16, 32, 64, 128)
SOURCE = (384, 512)  # rows and columns of the images
RUNS = 5
CHECK_VIEWS = 4
# Largest share of its own norm by which bfloat16 may move the logarithm of depth or distance.
BAR = 0.1
# Of layers with random weights: so that a deep network's outputs stay in the range of numbers.
GAIN = 0.5

Forward = Callable[[Tensor], list[Tensor]]


def network_of(size: Any) -> tuple[nn.Module, Forward]:
    """A network with random weights, and its maps of (1, N, 3, H, W) images."""
    if isinstance(size, DA3Size):
        da3 = DA3(size)
        return da3, lambda images: [da3(images).depth]
    if isinstance(size, VGGTSize):
        vggt = VGGT(size, points=False)
        return vggt, lambda images: [vggt(images).depth]
    if isinstance(size, Pi3Size):
        pi3 = Pi3(size)
        return pi3, lambda images: [pi3(images).local_points.norm(dim=-1)]
    assert isinstance(size, PairSize)
    pairs = PairNetwork(size)

    def decode(images: Tensor) -> list[Tensor]:
        tokens = [pairs.encode(view) for view in images.unbind(1)]
        return [
            maps.points.norm(dim=-1)
            for i, j in pairs_of(len(tokens), "complete")
            for maps in pairs.decode(tokens[i], tokens[j])
        ]

    return pairs, decode


def prepare(name: str, *, device: torch.device, small: bool) -> tuple[Forward, Any]:
    """Forward of a teacher, and the sizes of its network."""
    cost = TEACHERS[name].cost
    assert cost is not None
    size = reduced(cost.published) if small else cost.published
    torch.manual_seed(0)
    with device:
        network, forward = network_of(size)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.detach().mul_(GAIN)
    network.eval()
    return forward, size


def reduced(size: Any) -> Any:
    """The same network with few blocks, for a trial on a CPU."""
    if isinstance(size, DA3Size):
        return replace(size, depth=8, taps=(4, 5, 6, 7), alternate_from=2)
    if isinstance(size, VGGTSize):
        return replace(size, width=128, heads=2, encoder_depth=1, depth=4, taps=(0, 1, 2, 3))
    if isinstance(size, Pi3Size):
        return replace(size, width=128, branch_width=128, encoder_depth=1, depth=2, branch_depth=1)
    return replace(
        size, width=128, heads=2, decoder_width=128, decoder_heads=2, depth=1, decoder_depth=4
    )


@torch.inference_mode()
def check_bfloat16(forward: Forward, images: Tensor) -> dict[str, Any]:
    """How far maps of a bfloat16 trunk are from those of float32, by their logarithms."""
    exact = torch.cat([one.flatten() for one in forward(images)]).float()
    with torch.autocast(images.device.type, torch.bfloat16):
        lowered = torch.cat([one.flatten() for one in forward(images)]).float()
    error = (lowered.log1p() - exact.log1p()).norm() / exact.log1p().norm()
    return {"bfloat16_error": float(error), "bfloat16_ok": bool(error < BAR)}


@torch.inference_mode()
def timed(forward: Forward, images: Tensor, runs: int) -> dict[str, Any]:
    """Seconds in bfloat16, and memory at the highest."""
    seconds = []
    with peak_memory(images.device) as peak, torch.autocast(images.device.type, torch.bfloat16):
        for _ in range(runs + 1):
            synchronize(images.device)
            begin = time.perf_counter()
            forward(images)
            synchronize(images.device)
            seconds.append(time.perf_counter() - begin)
    return {
        "seconds": statistics.median(seconds[1:]),
        "seconds_min": min(seconds[1:]),
        "seconds_max": max(seconds[1:]),
        "peak_bytes": peak.bytes,
    }


def measure(
    names: Sequence[str], views: Sequence[int], runs: int, *, device: torch.device, small: bool
) -> list[dict[str, Any]]:
    """One row per teacher and number of views; a row says where memory ran out."""
    rows = []
    for name in names:
        record = TEACHERS[name]
        assert record.cost is not None
        forward, size = prepare(name, device=device, small=small)
        rows_columns = teacher_placement(SOURCE, record.fit).size
        if small:
            patch = record.fit.multiple
            rows_columns = (2 * patch, 3 * patch)
        settings = record.read_settings({})

        def images(count: int, size: tuple[int, int] = rows_columns) -> Tensor:
            return torch.rand(1, count, 3, *size, device=device)

        checked = check_bfloat16(forward, images(CHECK_VIEWS))
        for count in views:
            flop = total_flop(record.cost.flop(size, count, rows_columns, settings=settings))
            row = {
                "teacher": name,
                "views": count,
                "size": list(rows_columns),
                "tflop": flop / 1e12,
            }
            try:
                row |= timed(forward, images(count), runs)
            except AllocationError:
                row["out_of_memory"] = True
            rows.append(row | checked)
            print(json.dumps(rows[-1]), flush=True)
            if row.get("out_of_memory"):
                break
        del forward
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: seconds and GB by number of views, and the error of bfloat16."""
    views = sorted({row["views"] for row in rows})
    lines = [
        f"| teacher | {' | '.join(f'{n} views' for n in views)} | bfloat16 against float32 |",
        f"|{' --- |' * (len(views) + 2)}",
    ]
    for name in dict.fromkeys(row["teacher"] for row in rows):
        mine = {row["views"]: row for row in rows if row["teacher"] == name}
        cells = [_cell(mine.get(count)) for count in views]
        error = next(iter(mine.values()))["bfloat16_error"]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {100 * error:.1f} % |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not measured"
    if row.get("out_of_memory"):
        return "out of memory"
    return f"{row['seconds']:.3g} s, {row['peak_bytes'] / 1e9:.3g} GB"


def main() -> None:
    """Measure, or print the table of a measurement."""
    multiview = [name for name in TEACHERS if TEACHERS[name].cost is not None and name != "fast3r"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teachers", default=",".join(multiview))
    parser.add_argument("--views", default=",".join(map(str, VIEWS)))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="Few blocks and pixels: a trial.")
    parser.add_argument("--table", type=Path, help="Print the table of this result instead.")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.table is not None:
        print(table(json.loads(given.table.read_text(encoding="utf-8"))["rows"]))
        return
    device = profiling.pick_device(given.device)
    rows = measure(
        given.teachers.split(","),
        [int(count) for count in given.views.split(",")],
        given.runs,
        device=device,
        small=given.small,
    )
    result = {"machine": profiling.machine(device), "rows": rows}
    if given.output is not None:
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(rows))
    if not all(row["bfloat16_ok"] for row in rows):
        raise SystemExit(f"bfloat16 moves a map by more than {100 * BAR:.0f} %")


if __name__ == "__main__":
    main()
