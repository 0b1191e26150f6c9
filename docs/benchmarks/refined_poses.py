"""What each step of the refinement of poses gains: on a student's depth, and in exact rooms.

    python docs/benchmarks/refined_poses.py RUN MANIFEST.csv [--views 8] [--spread 12]
    python docs/benchmarks/refined_poses.py --rooms [--views 8] [--arcs 15,30,69,120]

Windows of a manifest: neighboring validation frames (the last window aligned to the end), every 4th
of them, and frames spread over the whole sequence. Rooms: rendered ones with exact images and
poses, depth that is wrong by a smooth error, and a start that is off.

Figures are given after each step: the start ("student"), pairs followed along a tree ("pairs"),
loops closed ("loops"), all views refined together ("joint"). `rotation` and `translation` are
medians over pairs, in degrees, translations up to sign; `auc_30` as in `eval`; `fused` is the mean
distance of all points to their own true ones after one similarity, and `shape` what the best
similarity of each view leaves, in cm.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill3r_core import load_student
from distill3r_core.data.manifest import ManifestRow, read_manifest
from distill3r_core.data.manifest_views import read_view
from distill3r_core.geometry.cameras import invert_rigid, place_intrinsics, unproject
from distill3r_core.geometry.fused_cloud import fused_error, shape_distances
from distill3r_core.geometry.pose_errors import area_under_curve, pair_errors
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.models import Student
from distill3r_core.profiling import machine, tool_version
from distill3r_core.reconstruction.reconstruct import reconstruct
from distill3r_core.reconstruction.reconstruction import AlignedMap, PosedView
from distill3r_core.reconstruction.refinement.motions import chain, exponential
from distill3r_core.reconstruction.refinement.refine import LastStep, refine_poses
from distill3r_core.reconstruction.refinement.scene import refine_scene
from distill3r_core.scenes.render import render_scene
from distill3r_core.types import View

OUTPUT = Path(__file__).with_suffix(".json")
STEPS: tuple[LastStep, ...] = ("pairs", "loops", "joint")
CENTIMETERS = {"m": 100.0, "mm": 0.1, "none": 1.0}  # in a unit
KNOTS = (4, 5)  # of a room's depth error over the image
TURN, SHIFT = 0.1, 0.2  # spread of a room's start about its poses: radians and meters, each axis


@dataclass(frozen=True)
class Known:
    """The truth of a window at the grid of its maps.

    Args:
        centimeters: In its unit of length.
    """

    points: Float[Tensor, "N H W 3"]  # in each camera's frame
    mask: Bool[Tensor, "N H W"]
    world_from_cam: Float[Tensor, "N 4 4"]
    centimeters: float


def figures(
    points: Float[Tensor, "N H W 3"], similarities: Float[Tensor, "N 3 4"], known: Known
) -> dict[str, float]:
    """How far local points and their similarities into one world are from the truth."""
    errors = pair_errors(rigid_of(similarities), known.world_from_cam)
    mask = known.mask & points.isfinite().all(-1)
    true = known.world_from_cam[:, :3]
    shape = torch.cat(list(shape_distances(points, known.points, mask)))
    return {
        "rotation": float(errors.rotation.median()),
        "translation": float(errors.translation.median()),
        "auc_30": area_under_curve(errors.largest, 30),
        "fused": known.centimeters
        * fused_error(
            points, known.points, mask, predicted_similarities=similarities, true_similarities=true
        ),
        "shape": known.centimeters * float(shape.mean()),
    }


def windows_of(
    rows: Sequence[ManifestRow], views: int, spread: int
) -> dict[str, list[list[ManifestRow]]]:
    """The windows of a manifest, by kind."""
    held = [row for row in rows if row.split.startswith("val")]
    chosen = np.linspace(0, len(rows) - 1, min(spread, len(rows)))
    return {
        "held out, neighbors": cut(held, views),
        "held out, every 4th": cut(held[::4], views),
        "spread over the sequence": [[rows[round(k)] for k in chosen]],
    }


def cut(rows: Sequence[ManifestRow], views: int) -> list[list[ManifestRow]]:
    """Windows of so many rows, or of all where there are fewer."""
    if len(rows) < 2:
        return []
    views = min(views, len(rows))
    starts = dict.fromkeys([*range(0, len(rows) - views, views), len(rows) - views])
    return [list(rows[start : start + views]) for start in starts]


def measure_window(
    student: Student, rows: Sequence[ManifestRow], root: Path
) -> Iterator[dict[str, Any]]:
    """Figures of one window after each step."""
    views = [read_view(row, root) for row in rows]
    begin = time.process_time()
    scene = reconstruct(
        [view.image for view in views],
        student,
        masks=[view.mask for view in views],
        refine=False,
    )
    if len(scene.views) < len(views):
        raise SystemExit(f"{rows[0].image_path}: not every view of its window has a camera")
    known = truth_of(views, scene.views)
    maps = [aligned_of(view).local_map.points for view in scene.views]
    points = torch.from_numpy(np.stack(maps)).double()
    seconds = time.process_time() - begin
    placed = similarities_of(scene.views)
    yield {"step": "student", "seconds": seconds} | figures(points, placed, known)
    for step in STEPS:
        begin = time.process_time()
        loaded = [view.loaded for view in scene.views]
        found, summary = refine_scene(scene.views, loaded, student, until=step)
        yield {
            "step": step,
            "seconds": time.process_time() - begin,
            "aligned": sum(summary.aligned),
            "pairs": summary.pairs,
            "accepted": summary.accepted,
            "focal_factor": summary.focal_factor,
        } | figures(points, similarities_of(found), known)


def similarities_of(views: Sequence[PosedView]) -> Float[Tensor, "N 3 4"]:
    """What carries each view's local points into the world."""
    return torch.stack([torch.from_numpy(aligned_of(view).world_from_local) for view in views])


def aligned_of(view: PosedView) -> AlignedMap:
    """The local map of a view of a student with both heads."""
    assert view.aligned is not None
    return view.aligned


def truth_of(views: Sequence[View], posed: Sequence[PosedView]) -> Known:
    """The truth at the grid of the maps, depth by the nearest pixel."""
    points, masks, poses = [], [], []
    for view, placed in zip(views, posed, strict=True):
        if view.depth is None or view.intrinsics is None or view.world_from_cam is None:
            raise SystemExit("a manifest with depth, poses and calibrated K is needed")
        placement = placed.loaded.fitted.placement
        depth = torch.from_numpy(view.depth).double()
        depth = resample_nearest(depth, placement.box, placement.size)
        K = place_intrinsics(torch.from_numpy(view.intrinsics).double(), placement)
        points.append(unproject(depth, K))
        masks.append(depth > 0)
        poses.append(torch.from_numpy(view.world_from_cam).double())
    return Known(
        torch.stack(points), torch.stack(masks), torch.stack(poses), CENTIMETERS[views[0].unit]
    )


def measure_room(
    seed: int, views: int, size: tuple[int, int], degrees: float, error: float
) -> Iterator[dict[str, Any]]:
    """Figures of one room after each step.

    Args:
        degrees: Of the arc of its cameras.
        error: Root mean square of the relative error of the depth.
    """
    room = render_scene(seed, views, size, degrees=degrees)
    true = unproject(room.depth, room.intrinsics).double()
    generator = torch.Generator().manual_seed(seed)
    bumps = torch.randn(views, 1, *KNOTS, generator=generator, dtype=torch.float64)
    smooth = functional.interpolate(bumps, size, mode="bicubic", align_corners=True)[:, 0]
    smooth = smooth / smooth.square().mean((1, 2), keepdim=True).sqrt()
    points = true * (error * smooth).exp()[..., None]
    poses = room.world_from_cam.double()
    poses = invert_rigid(poses[:1]) @ poses
    twists = torch.randn(views, 6, generator=generator, dtype=torch.float64)
    twists *= twists.new_tensor([TURN] * 3 + [SHIFT] * 3)
    twists[0] = 0
    start = chain(poses[:, :3], exponential(twists))
    known = Known(true, torch.ones_like(room.depth, dtype=torch.bool), poses, CENTIMETERS["m"])
    yield {"step": "student", "seconds": 0.0} | figures(points, start, known)
    for step in STEPS:
        begin = time.process_time()
        found = refine_poses(room.images, points.float(), start, until=step)
        yield {
            "step": step,
            "seconds": time.process_time() - begin,
            "aligned": int(found.aligned.sum()),
            "pairs": len(found.pairs),
            "accepted": int(found.accepted.sum()),
            "focal_factor": found.focal_factor,
        } | figures(points, found.world_from_local, known)


def show(row: Mapping[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}))


def store(output: Path, kind: str, settings: Mapping[str, Any], rows: Sequence[Any]) -> None:
    """Write the figures of one kind, beside those of the other that are there."""
    result = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    result[kind] = {
        "settings": dict(settings),
        "version": tool_version(),
        "machine": machine(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "rows": list(rows),
    }
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("manifest", type=Path, nargs="?")
    parser.add_argument("--rooms", action="store_true", help="measure exact rooms")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--spread", type=int, default=12)
    parser.add_argument("--seed", type=int, default=3, help="of the rooms")
    parser.add_argument("--size", default="112x154", help="of the rooms' images, HxW")
    parser.add_argument("--arcs", type=numbers, default=[15.0, 30.0, 69.0, 120.0])
    parser.add_argument("--errors", type=numbers, default=[0.0, 0.05, 0.1])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    chosen = parser.parse_args()
    if chosen.rooms == (chosen.manifest is not None):
        parser.error("give a run and a manifest, or --rooms")
    torch.set_num_threads(1)
    rows = []
    if chosen.rooms:
        height, width = map(int, chosen.size.split("x"))
        for degrees in chosen.arcs:
            for error in chosen.errors:
                place = {"degrees": degrees, "depth_error": error}
                for row in measure_room(chosen.seed, chosen.views, (height, width), degrees, error):
                    rows.append(place | row)
                    show(rows[-1])
        settings = {"views": chosen.views, "size": chosen.size, "seed": chosen.seed}
        store(chosen.output, "rooms", settings, rows)
        return
    student, table = load_student(chosen.model), read_manifest(chosen.manifest)
    for kind, windows in windows_of(table.rows, chosen.views, chosen.spread).items():
        for number, window in enumerate(windows):
            place = {"windows": kind, "window": number, "views": len(window)}
            for row in measure_window(student, window, table.root):
                rows.append(place | row)
                show(rows[-1])
    settings = {"model": chosen.model.name, "views": chosen.views, "spread": chosen.spread}
    store(chosen.output, "windows", settings, rows)


if __name__ == "__main__":
    main()
