"""What normals, ICP and TSDF fusion add to an evaluation, on exact clouds of a rendered room.

    python docs/benchmarks/cloud_costs.py [--views 50] [--size 224x518] [--parts distances,icp]

Each part runs in a process of its own, so that its peak memory is its own: `distances` (both ways,
as Acc and Comp take them), `normals` (the same with NC, of 30 neighbors), `icp` (within 0.1 m, from
2 cm beside the truth) and `tsdf` (fusion in voxels of 1 cm, and a million points of its surface).
The room is rendered before the time begins; `nothing` shows what memory it takes.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from distill3r_core.config import parse_size
from distill3r_core.evaluation.clouds.cloud_errors import cloud_errors
from distill3r_core.evaluation.clouds.icp import icp
from distill3r_core.evaluation.clouds.tsdf import TsdfVolume, VolumeRules, sample_surface
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.metrics import nearest_distances
from distill3r_core.profiling import machine, tool_version
from distill3r_core.scenes.render import RenderedScene, render_scene

ROOM = 5
SHIFT = 0.02  # m, of the predicted cloud
THRESHOLD, VOXEL = 0.1, 0.01  # m
POINTS = 1_000_000  # on the fused surface


def _clouds(scene: RenderedScene) -> tuple[torch.Tensor, torch.Tensor]:
    """The predicted and the true cloud."""
    points = unproject(scene.depth, scene.intrinsics)
    rotation, place = scene.world_from_cam[:, None, None, :3, :3], scene.world_from_cam[:, :3, 3]
    world = (rotation @ points[..., None]).squeeze(-1) + place[:, None, None]
    true = world[scene.depth > 0].double()
    return true + SHIFT, true


def _distances(scene: RenderedScene) -> None:
    predicted, true = _clouds(scene)
    nearest_distances(predicted, true)
    nearest_distances(true, predicted)


def _normals(scene: RenderedScene) -> None:
    cloud_errors(*_clouds(scene))


def _icp(scene: RenderedScene) -> None:
    icp(*_clouds(scene), threshold=THRESHOLD)


def _tsdf(scene: RenderedScene) -> None:
    volume = TsdfVolume(VolumeRules(VOXEL, truncation=4 * VOXEL, farthest=10.0))
    for depth, intrinsics, pose in zip(
        scene.depth, scene.intrinsics, scene.world_from_cam, strict=True
    ):
        volume.integrate(depth.double().numpy(), intrinsics.numpy(), pose.numpy())
    sample_surface(volume.triangles(), POINTS)


PARTS: Mapping[str, Callable[[RenderedScene], None]] = {
    "nothing": lambda scene: None,
    "distances": _distances,
    "normals": _normals,
    "icp": _icp,
    "tsdf": _tsdf,
}


def _measure(part: str, views: int, size: tuple[int, int], sent: "multiprocessing.SimpleQueue"):
    scene = render_scene(ROOM, views, size)
    clock, cpu = time.perf_counter(), time.process_time()
    PARTS[part](scene)
    sent.put(
        {
            "seconds": time.perf_counter() - clock,
            "cpu_seconds": time.process_time() - cpu,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    )


def main() -> None:
    """Measure each part, print a line for it, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--size", type=parse_size, default=(224, 518))
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    processes = multiprocessing.get_context("spawn")
    found = {}
    for part in options.parts:
        sent = processes.SimpleQueue()
        process = processes.Process(target=_measure, args=(part, options.views, options.size, sent))
        process.start()
        found[part] = sent.get()
        process.join()
        row = found[part]
        print(
            f"{part:<10} {row['seconds']:7.1f} s  {row['cpu_seconds']:7.1f} CPU-s  "
            f"{row['peak_bytes'] / 1e9:5.2f} GB"
        )
    result = {
        "views": options.views,
        "size": list(options.size),
        "version": tool_version(),
        "machine": machine(),
        "parts": found,
    }
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
