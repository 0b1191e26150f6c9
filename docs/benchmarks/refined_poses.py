"""Poses of a student, as they are and refined, against the true ones of a manifest.

    python docs/benchmarks/refined_poses.py MODEL MANIFEST.csv [--views 8] [--spread 12]

Windows of neighboring validation frames (the last one aligned to the end), of every 4th of them,
and one of frames spread over the training frames.
"""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from distill3r_core import load_student
from distill3r_core.geometry.pose_errors import area_under_curve, pair_errors
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity
from distill3r_core.models import Student
from distill3r_core.reconstruction.reconstruct import reconstruct
from distill3r_core.reconstruction.reconstruction import Reconstruction

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--spread", type=int, default=12)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    student = load_student(chosen.model)
    with chosen.manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    held = [row for row in rows if row["split"].startswith("val")]
    seen = [row for row in rows if not row["split"].startswith("val")]
    windows = {
        "held out, neighbors": cut(held, chosen.views),
        "held out, every 4th": cut(held[::4], chosen.views),
        "spread over training": [
            [seen[round(k)] for k in np.linspace(0, len(seen) - 1, chosen.spread)]
        ],
    }
    for name, found in windows.items():
        for refine in (False, True):
            measure(student, found, chosen.manifest.parent, name, refine)


def cut(rows: Sequence[Row], views: int) -> list[list[Row]]:
    starts = [*range(0, len(rows) - views, views), len(rows) - views]
    return [list(rows[start : start + views]) for start in starts]


def measure(
    student: Student, windows: Sequence[Sequence[Row]], folder: Path, name: str, refine: bool
) -> None:
    figures, note = [], ""
    for window in windows:
        begin = time.process_time()
        scene = reconstruct([folder / row["image_path"] for row in window], student, refine=refine)
        seconds = time.process_time() - begin
        poses = torch.from_numpy(np.stack([camera.world_from_cam for camera in scene.cameras]))
        truth = torch.tensor([json.loads(row["pose"]) for row in window]).view(-1, 4, 4).double()
        errors = pair_errors(poses, truth)
        figures.append(
            (
                float(errors.rotation.median()),
                float(errors.translation.median()),
                area_under_curve(errors.largest, 30),
                *fused(scene, window, folder),
                seconds,
            )
        )
        note += f" {scene.refinement.text};" if refine else ""
    low, mean, high = np.min(figures, 0), np.mean(figures, 0), np.max(figures, 0)
    cells = [f"{m:.3g} ({a:.3g} to {b:.3g})" for a, m, b in zip(low, mean, high, strict=True)]
    print("|", name, "|", "refined" if refine else "student", "|", " | ".join(cells), "|", note)


def fused(scene: Reconstruction, window: Sequence[Row], folder: Path) -> tuple[float, float]:
    """Mean distance to the true points in cm: with own poses, and with each view's best."""
    mine, true, best = [], [], []
    for view, row in zip(scene.views, window, strict=True):
        assert view.aligned is not None
        points = torch.from_numpy(view.aligned.world_map.points).double()
        depth = np.asarray(Image.open(folder / row["depth_path"])).astype(float) / 1000
        height, width = points.shape[:2]
        rows = ((np.arange(height) + 0.5) / height * depth.shape[0]).astype(int)
        columns = ((np.arange(width) + 0.5) / width * depth.shape[1]).astype(int)
        z = depth[np.ix_(rows, columns)]
        K, pose = np.array(json.loads(row["K"])), np.array(json.loads(row["pose"])).reshape(4, 4)
        K = K.reshape(3, 3)
        u, v = np.meshgrid(columns + 0.5, rows + 0.5)
        local = np.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z], -1)
        counted = torch.from_numpy((z > 0) & (z < 10)) & points.isfinite().all(-1)
        world = torch.from_numpy(local @ pose[:3, :3].T + pose[:3, 3])[counted]
        mine.append(points[counted])
        true.append(world)
        own = apply_similarity(fit_similarity(mine[-1], world), mine[-1])
        best.append((own - world).norm(dim=-1))
    source, target = torch.cat(mine), torch.cat(true)
    whole = apply_similarity(fit_similarity(source, target), source)
    distance = float((whole - target).norm(dim=-1).mean())
    return 100 * distance, 100 * float(torch.cat(best).mean())


if __name__ == "__main__":
    main()
