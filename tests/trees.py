"""Fabricated data sets: tiny pictures whose color tells the frame."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 32)
EYE = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"


def color_of(frame: int) -> tuple[int, int, int]:
    """The color of most pixels of a frame; a corner is lighter or darker, as no image is blank."""
    return (frame * 7 % 256, frame * 31 % 256, 255 - frame * 7 % 256)


def save_picture(path: Path, frame: int, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    two_colors(frame, size).save(path)
    return path


def two_colors(frame: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """An image of one color, but for its lower right quarter."""
    image = Image.new("RGB", (size[1], size[0]), color_of(frame))
    other = tuple((value + 128) % 256 for value in color_of(frame))
    image.paste(other, (size[1] // 2, size[0] // 2, size[1], size[0]))
    return image


def save_depth(path: Path, millimeters: int = 1500, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, millimeters, np.uint16)).save(path)
    return path


def save_pose(path: Path, x: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(EYE.replace("1 0 0 0", f"1 0 0 {x}", 1))
    return path


def photos(folder: Path, count: int, *, name: str = "IMG_{:d}.png", first: int = 8) -> Path:
    """Photographs numbered without padding: their order as text is not that of the numbers."""
    for frame in range(count):
        save_picture(folder / name.format(first + frame), frame)
    return folder


def rgbd_scene(folder: Path, count: int, *, size: tuple[int, int] = SIZE) -> Path:
    for frame in range(count):
        save_picture(folder / "rgb" / f"{frame:06d}.png", frame, size)
        save_depth(folder / "depth" / f"{frame:06d}.png", 1000 + frame, size)
        save_pose(folder / "pose" / f"{frame:06d}.txt", 0.1 * frame)
    (folder / "intrinsics.txt").write_text(f"30 0 {size[1] / 2}\n0 30 {size[0] / 2}\n0 0 1\n")
    return folder


def sevenscenes_sequence(folder: Path, count: int, *, step: int = 1, color: str = "png") -> Path:
    """Frames of one sequence; with `step` their numbers have holes."""
    for frame in range(count):
        stem = f"frame-{frame * step:06d}"
        save_picture(folder / f"{stem}.color.{color}", frame, (48, 64))
        save_depth(folder / f"{stem}.depth.png", 1500, (48, 64))
        save_pose(folder / f"{stem}.pose.txt", 0.01 * frame)
    return folder


def chess(root: Path) -> Path:
    """7-Scenes with each of its traps: 65535, color as JPEG, a sequence that is not there."""
    scene = root / "chess"
    sevenscenes_sequence(scene / "seq-01", 12)
    sevenscenes_sequence(scene / "seq-02", 11, step=3, color="jpg")
    depth = np.full((48, 64), 1500, np.uint16)
    depth[:, :32] = 65535
    depth[:8] = 0
    Image.fromarray(depth).save(scene / "seq-01" / "frame-000004.depth.png")
    (scene / "TrainSplit.txt").write_bytes(b"sequence1\r\nsequence7\r\n\r\n")
    (scene / "TestSplit.txt").write_text("sequence2\n")
    return root


def rejected(out: Path) -> dict[str, str]:
    """Reasons in `rejected.csv`, by the name of the file."""
    with (out / "rejected.csv").open(newline="") as file:
        return {Path(line["path"]).name: line["reason"] for line in csv.DictReader(file)}


def tree_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Times and bytes of all that a reader of the manifest may open."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".png", ".npy")
    }
