"""Which cloud lies nearer to a sensor's truth: the global maps, or the aligned local ones?

After `manifest data/7scenes_kitchen --stride 1 --val-frames last:40`, `cache` and `train`:

    python docs/benchmarks/infer_clouds.py runs/small-001 data/manifest.csv infer_clouds.json

Windows of views are reconstructed as `infer` does. Both clouds, without their tenth of least
confidence, are carried to the sensor's points by one robust similarity per window; the figure is
the distance that is left, pixel by pixel. Poses are compared with the data set's.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill3r_core.data.manifest import ManifestRow, read_manifest
from distill3r_core.data.manifest_views import read_view
from distill3r_core.geometry.registration import fit_similarity_robust, rotation_angle
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.io.images.inputs import InputFile
from distill3r_core.models import Student, load_student
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.loaded_views import LoadedView, load_views
from distill3r_core.reconstruction.point_cloud import Cleaning, clean_cloud
from distill3r_core.reconstruction.prediction.forward_pass import run_student
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.runs.student_file import fit_of

WINDOWS = ((8, 2), (8, 5), (20, 1))  # views, frames from one to the next
CONFIDENCE = Cleaning(conf=10.0, max_points=10**9)
CLEANINGS = {
    "conf 0": Cleaning(conf=0.0, max_points=10**9),
    "conf 10": CONFIDENCE,
    "conf 25": Cleaning(conf=25.0, max_points=10**9),
    "conf 10, edges 0.05": Cleaning(conf=10.0, edges=0.05, max_points=10**9),
}


def truth(
    row: ManifestRow, root: Path, view: LoadedView
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World points of the sensor at a view's pixels, where it has any, and the pose."""
    known = read_view(row, root, sample="", index=0)
    assert known.depth is not None and known.intrinsics is not None
    assert known.world_from_cam is not None
    pixels = np.floor(full_size_pixels(view.fitted.placement)).astype(int)
    depth = known.depth[pixels[..., 1], pixels[..., 0]]
    k, pose = known.intrinsics, known.world_from_cam
    slopes = (pixels + 0.5 - k[:2, 2]) / k[[0, 1], [0, 1]]
    rays = np.concatenate([slopes, np.ones_like(slopes[..., :1])], axis=-1)
    points = (depth[..., None] * rays) @ pose[:3, :3].T + pose[:3, 3]
    return points.reshape(-1, 3), (depth > 0).reshape(-1), pose


def distances(
    scene: Reconstruction, cleaning: Cleaning, points: np.ndarray, valid: np.ndarray
) -> dict[str, float]:
    """Centimeters from a cleaned cloud to the sensor's points."""
    cleaned = clean_cloud(scene, cleaning)
    rows, columns = scene.views[0].in_world.confidence.shape
    flat = cleaned.view * rows * columns + cleaned.pixel @ np.array([columns, 1])
    counted = valid[flat]
    ours = torch.from_numpy(cleaned.cloud.points[counted].astype(np.float64))
    theirs = torch.from_numpy(points[flat][counted])
    carried = fit_similarity_robust(ours, theirs, torch.ones(len(ours), dtype=torch.float64))
    left = 100 * (apply_similarity(carried, ours) - theirs).norm(dim=-1)
    share = len(flat) / len(valid)
    return {"mean": float(left.mean()), "median": float(left.median()), "kept": share}


def window(student: Student, rows: list[ManifestRow], root: Path) -> dict[str, Any]:
    """Figures of one window."""
    sources = [InputFile(root / row.image_path, "image") for row in rows]
    views = load_views(sources, fit_of(student)).views
    maps = run_student(student, views).maps
    known = [truth(row, root, view) for row, view in zip(rows, views, strict=True)]
    points, valid = (np.concatenate([part[i] for part in known]) for i in (0, 1))
    found: dict[str, Any] = {"first": rows[0].sample_id}
    for poses in ("similarity", "pnp"):
        solved = solve_cameras(views, maps, poses=poses).views
        angles = [
            rotation_angle(
                torch.from_numpy(view.camera.world_from_cam),
                torch.from_numpy(np.linalg.inv(known[0][2]) @ pose),
            )
            for view, (_, _, pose) in zip(solved[1:], known[1:], strict=True)
        ]
        found[f"rotation {poses}"] = float(torch.stack(angles).median())
    solved = solve_cameras(views, maps).views
    found["focal"] = float(np.median([view.camera.intrinsics[0, 0] for view in solved]))
    for cloud in ("global", "aligned"):
        scene = Reconstruction(solved, cloud_from=cloud)
        found[cloud] = distances(scene, CONFIDENCE, points, valid)
    found["cleaning"] = {
        name: distances(scene, cleaning, points, valid) for name, cleaning in CLEANINGS.items()
    }
    return found


def main(model: Path, manifest: Path, output: Path) -> None:
    """Measure held-out and training windows, and write the figures."""
    student = load_student(model)
    table = read_manifest(manifest)
    result: dict[str, Any] = {"model": str(model), "unit": "cm, degrees, pixels", "windows": []}
    for views, step in WINDOWS:
        for split in ("train", "val"):
            rows = [row for row in table.rows if row.split == split]
            starts = range(0, len(rows) - (views - 1) * step, views * step // 2)
            for start in starts:
                chosen = rows[start : start + views * step : step]
                figures = window(student, chosen, table.root)
                result["windows"].append({"split": split, "views": views, "step": step} | figures)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
