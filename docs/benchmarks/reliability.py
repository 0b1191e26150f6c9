"""Count the reliability of windows of frames: how often is a good input called bad?

    python docs/benchmarks/reliability.py MODEL FOLDER... [--last 40] [--every 1] [--sizes 4 8 20]
    python docs/benchmarks/reliability.py MODEL --rooms 1 2 3

A window is so many neighboring frames of a folder, from every start. `--rooms` renders rooms of
the demo with seeds that no demo trains on.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import torch

from distill3r_core import load_student
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.reconstruction.reconstruct import reconstruct
from distill3r_core.scenes import arc, build_scene, pinhole, render_view

ROOM_SIZE, ROOM_VIEWS, ROOM_SEEDS = (140, 196), 12, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--rooms", type=int, nargs="*", default=[], help="seeds of rooms")
    parser.add_argument("--last", type=int, default=None, help="take the last frames only")
    parser.add_argument("--every", type=int, default=1, help="take every k-th frame")
    parser.add_argument("--sizes", type=int, nargs="*", default=[4, 6, 8, 12, 16, 20])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    student = load_student(chosen.model)
    with tempfile.TemporaryDirectory() as folder:
        rooms = [render_room(Path(folder) / f"room-{seed}", seed) for seed in chosen.rooms]
        for scene in [*chosen.folders, *rooms]:
            files = sorted(path for path in scene.iterdir() if is_image(path))
            count(student, files[-(chosen.last or len(files)) :: chosen.every], scene, chosen.sizes)


def is_image(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".png") and ".depth." not in path.name


def count(student, files: list[Path], scene: Path, sizes: list[int]) -> None:
    levels: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for size in [size for size in sizes if size <= len(files)] or [len(files)]:
        for start in range(len(files) - size + 1):
            reliability = reconstruct(files[start : start + size], student).reliability
            assert reliability is not None, "reconstruct judges every scene"
            levels[reliability.level] += 1
            if reliability.level != "good":
                reasons[f"{size} from {start}: {reliability.text}"] += 1
    print(f"{scene.name}: {dict(levels)}", *list(reasons)[:6], sep="\n    ", flush=True)


def render_room(folder: Path, seed: int) -> Path:
    scene, intrinsics = build_scene(ROOM_SEEDS * seed), pinhole(ROOM_SIZE)
    poses = arc(scene, ROOM_VIEWS, seed=ROOM_SEEDS * seed)
    images, depths = zip(
        *(render_view(scene, pose, intrinsics, ROOM_SIZE) for pose in poses), strict=True
    )
    write_rgbd_scene(folder, torch.stack(images), torch.stack(depths), poses, intrinsics)
    return folder / "rgb"


if __name__ == "__main__":
    main()
