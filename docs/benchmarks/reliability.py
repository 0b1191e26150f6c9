"""Count the reliability of windows of frames, beside the true error of their reconstructions.

    python docs/benchmarks/reliability.py MODEL --manifest data/manifest.csv [--last 40]
    python docs/benchmarks/reliability.py --demos 1 2 3 [--rooms 2 --views 60 --steps 400]
    python docs/benchmarks/reliability.py MODEL --other-rooms 1 2 3

A window is so many neighboring frames, after `--every` has thinned them; `--starts` says how many
of each size, evenly spread. `--demos` runs `demo` up to its student for every seed, and takes the
windows of its first room. `--other-rooms` renders rooms of seeds that no demo trains on.

The true level is `good` where rotations and depth are off by at most 1.5 times what the student's
held-out samples were, `unreliable` where they are hardly better than a guess (rotations off by
three quarters of those between the views, where these are 10 degrees or more, or depth by 0.9 of
what one depth for all pixels would be), and `worse` between.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from distill3r_core import load_student
from distill3r_core.data.manifest import ManifestRow, read_manifest
from distill3r_core.data.manifest_views import read_view
from distill3r_core.geometry.pose_errors import pair_errors
from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.models import Student
from distill3r_core.reconstruction.reconstruct import reconstruct
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.report import Silent
from distill3r_core.scenes import arc, build_scene, pinhole, render_view
from distill3r_core.stages.demo.demo_steps import DemoSettings, steps_of
from distill3r_core.stages.demo.parts import render_rooms
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

LEVELS = ("good", "worse", "unreliable")
ROOM_SIZE, ROOM_VIEWS, ROOM_SEEDS = (140, 196), 12, 1000
GOOD, LEAST_TURN, GUESSED_TURN, GUESSED_DEPTH = 1.5, 10.0, 0.75, 0.9
SHOWN = 6  # windows that are not good


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--demos", type=int, nargs="*", default=[], help="seeds of demos")
    parser.add_argument("--rooms", type=int, default=2, help="of each demo")
    parser.add_argument("--views", type=int, default=60, help="of each room")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--other-rooms", type=int, nargs="*", default=[], help="seeds of rooms")
    parser.add_argument("--first", type=int, default=None, help="take the first frames only")
    parser.add_argument("--last", type=int, default=None, help="take the last frames only")
    parser.add_argument("--every", type=int, default=1, help="take every k-th frame")
    parser.add_argument("--offset", type=int, default=0, help="the first frame of these")
    parser.add_argument("--sizes", type=int, nargs="*", default=[4, 6, 8, 12, 16, 20])
    parser.add_argument("--starts", type=int, default=None, help="windows of each size at most")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    student = None if chosen.model is None else load_student(chosen.model)
    if student is not None and chosen.manifest is not None:
        count(student, chosen.manifest, chosen, str(chosen.manifest))
    with tempfile.TemporaryDirectory() as folder:
        for seed in chosen.other_rooms:
            assert student is not None
            manifest = render_room(Path(folder) / f"room-{seed}", seed)
            count(student, manifest, chosen, f"room of seed {seed}")
        for seed in chosen.demos:
            demo = DemoSettings(
                output=Path(folder) / f"demo-{seed}",
                rooms=chosen.rooms,
                views=chosen.views,
                steps=chosen.steps,
                seed=seed,
            )
            render_rooms(demo, overwrite=False, progress=Silent())
            for step in steps_of(demo)[:3]:  # manifest, cache, train
                step.run(False, Silent())
            count(load_student(demo.run), demo.data / "manifest.csv", chosen, f"demo {seed}")


def count(student: Student, path: Path, chosen: argparse.Namespace, name: str) -> None:
    """Judge the windows of the first scene of a manifest."""
    assert student.metadata is not None and student.metadata.calibration is not None
    manifest = read_manifest(path)
    first = manifest.rows[0].scene_id
    rows = [row for row in manifest.rows if row.scene_id == first][: chosen.first]
    rows = sorted(rows, key=lambda row: row.sample_id)
    rows = rows[-(chosen.last or len(rows)) :][chosen.offset :: chosen.every]
    levels: Counter[str] = Counter()
    apart: Counter[int] = Counter()
    lines = []
    for size in [size for size in chosen.sizes if size <= len(rows)] or [len(rows)]:
        last = len(rows) - size
        for start in spread(last, chosen.starts):
            window = rows[start : start + size]
            scene = reconstruct([path.parent / row.image_path for row in window], student)
            assert scene.reliability is not None, "reconstruct judges every scene"
            level = scene.reliability.level
            truth, errors = true_level(student, scene, window, path.parent)
            levels[level] += 1
            apart[abs(LEVELS.index(level) - LEVELS.index(truth))] += 1
            if level != "good" or truth != "good":
                lines.append(f"{size} from {start}: in truth {truth} ({errors}); {level}: "
                             f"{'; '.join(scene.reliability.reasons)}")  # fmt: skip
    calibration = student.metadata.calibration
    print(
        f"{name}: {dict(levels)}; levels from the truth: {dict(sorted(apart.items()))}; held out: "
        f"depth {calibration.depth_error:.1%} of {calibration.constant_error:.1%}, "
        f"rotation {calibration.rotation_error or 0:.1f}",
        *lines[:SHOWN],
        sep="\n    ",
        flush=True,
    )


def spread(last: int, most: int | None) -> list[int]:
    """Starts from 0 to `last`, at most so many."""
    if most is None or most > last:
        return list(range(last + 1))
    return sorted({round(start) for start in np.linspace(0, last, most)})


def true_level(
    student: Student, scene: Reconstruction, rows: list[ManifestRow], root: Path
) -> tuple[str, str]:
    """The level by the true errors, and these in words."""
    views = [read_view(row, root) for row in rows]
    found = torch.from_numpy(np.stack([camera.world_from_cam for camera in scene.cameras]))
    poses = torch.stack([torch.as_tensor(view.world_from_cam) for view in views]).double()
    rotation = float(pair_errors(found, poses).rotation.median())
    still = torch.eye(4, dtype=torch.float64).expand_as(poses)
    turn = float(pair_errors(still, poses).rotation.median())
    off, flat = [], []
    for view, posed in zip(views, scene.views, strict=True):
        placement = posed.loaded.fitted.placement
        depth = torch.as_tensor(view.depth)
        true = resample_nearest(depth, placement.box, placement.size).numpy()
        ratio = (posed.depth / np.where(true > 0, true, 1))[true > 0]
        off.append(np.median(np.abs(ratio / np.median(ratio) - 1)))
        flat.append(np.median(np.abs(np.median(true[true > 0]) / true[true > 0] - 1)))
    depth_error, constant = float(np.median(off)), float(np.median(flat))
    errors = f"rotation {rotation:.1f} of {turn:.1f}, depth {depth_error:.0%} of {constant:.0%}"
    guessed = turn >= LEAST_TURN and rotation > GUESSED_TURN * turn
    if guessed or depth_error > GUESSED_DEPTH * constant:
        return "unreliable", errors
    assert student.metadata is not None and student.metadata.calibration is not None
    calibration = student.metadata.calibration
    close = depth_error <= GOOD * calibration.depth_error
    close &= rotation <= GOOD * (calibration.rotation_error or np.inf)
    return ("good" if close else "worse"), errors


def render_room(folder: Path, seed: int) -> Path:
    """Write a room, and a manifest of it."""
    scene, intrinsics = build_scene(ROOM_SEEDS * seed), pinhole(ROOM_SIZE)
    poses = arc(scene, ROOM_VIEWS, seed=ROOM_SEEDS * seed)
    images, depths = zip(
        *(render_view(scene, pose, intrinsics, ROOM_SIZE) for pose in poses), strict=True
    )
    rooms = folder / "rooms"
    write_rgbd_scene(rooms / "room", torch.stack(images), torch.stack(depths), poses, intrinsics)
    settings = ManifestSettings(roots=(rooms,), output=folder / "data", views=ROOM_VIEWS)
    build_manifest(settings)
    return folder / "data/manifest.csv"


if __name__ == "__main__":
    main()
