"""Layouts `dtu`: objects on a table, 49 or 64 views from a robot's arm, in millimeters.

Either the pack for training made for MVSNet, `Rectified/scan1_train/rect_001_0_r5000.png` with
`Cameras` and `Depths`, or the pack for testing, `scan1/{images, cams, depths, binary_masks}`. Depth
of the full-size images, `Depths_raw`, is often unpacked as `Depths/scan1`. Facts:
xy-guo/MVSNet_pytorch (`depth_visual_*.png` is the mask of depth), HengyiWang/spann3r.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.folders import entries_of, frame_key, one_dataset
from distill3r_core.data.layouts.published.mvsnet_camera import read_mvsnet_camera
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.io.images.depth_codecs import pfm_size

_IMAGE = re.compile(r"rect_(\d+)_(\d+)_r5000\.png", re.IGNORECASE)
_MAP = re.compile(r"depth_map_\d{4}\.pfm")
_SMALL = "_train"  # scans whose images are halved and cut
_SCAN = re.compile(r"scan(\d+)(_train)?")
_TEST_SCANS = frozenset(
    (1, 4, 9, 10, 11, 12, 13, 15, 23, 24, 29, 32, 33, 34, 48, 49, 62, 75, 77, 110, 114, 118)
)
_TEST_LIGHT = 3
_FULL = (1200, 1600)
_HALVED = (512, 640)  # the full image halved, then rows 44 to 555 and columns 80 to 719
_CROP = (44, 80)
_MASK = 128  # of 0 and 255: where depth is valid
_MM = {"scale": 1.0, "invalid": (), "any_size": True}


def _detect(root: Path) -> str | None:
    if not root.is_dir():
        return None
    if (root / "Rectified").is_dir() and (root / "Cameras").is_dir():
        return "it has Rectified and Cameras"
    for folder in _scans(root):
        if (folder / "images").is_dir() and (folder / "cams").is_dir():
            return f"{folder.name} has images and cams"
    return None


def _scans(folder: Path) -> list[Path]:
    entries = entries_of(folder)[0] if folder.is_dir() else []
    return [folder / e.name for e in entries if e.is_dir() and _SCAN.fullmatch(e.name)]


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    for folder in _scans(root / "Rectified"):
        yield from _training_scan(root, folder)
    for folder in _scans(root):
        if folder != skip and (folder / "images").is_dir():
            yield from _test_scan(folder)


def _training_scan(root: Path, folder: Path) -> Iterator[Listed]:
    """One scene for each light: the views are the same."""
    lights: dict[int, dict[int, Path]] = {}
    for entry in entries_of(folder)[0]:
        if match := _IMAGE.fullmatch(entry.name):
            light = lights.setdefault(int(match.group(2)), {})
            light[int(match.group(1))] = folder / entry.name
    number = _number(folder)
    try:
        depths = _depths_of(root, folder.name)
    except ImageError as error:
        yield Note(f"scan{number}: its depth is left out: {error}")
        depths = None
    for light, images in sorted(lights.items()):
        frames = []
        for view, image in sorted(images.items()):
            try:
                frames.append(_training_frame(root, depths, image, view))
            except ImageError as error:
                yield Refused(image, str(error), is_frame=True)
        yield Scene(
            scene_id=f"scan{number}/light{light}",
            folder=folder,
            frames=tuple(frames),
            order="number",
            is_test=number in _TEST_SCANS and light == _TEST_LIGHT,
            place=f"scan{number}",
        )


def _depths_of(root: Path, scan: str) -> Path | None:
    """The folder with the depth maps of a scan; None: there is none.

    Raises:
        ImageError: Those in `Depths` are damaged, or not of the full-size images. The message is
            the reason alone.
    """
    raw, folder = (root / name / scan for name in ("Depths_raw", "Depths"))
    if scan.endswith(_SMALL):
        return folder
    if raw.is_dir():
        return raw
    if not folder.is_dir():
        return None
    first = next((e.name for e in entries_of(folder)[0] if _MAP.fullmatch(e.name)), None)
    if first is None:
        return None
    if (size := pfm_size(folder / first)) != _FULL:
        found, wanted = (f"{columns}x{rows}" for rows, columns in (size, _FULL))
        raise ImageError(f"Depths/{scan}/{first} is {found}, its images {wanted}")
    return folder


def _training_frame(root: Path, depths: Path | None, image: Path, view: int) -> Frame:
    """A view; images are counted from 1, cameras and depth maps from 0."""
    pose, k = read_mvsnet_camera(root / "Cameras" / f"{view - 1:08d}_cam.txt")
    small = image.parent.name.endswith(_SMALL)
    if small:
        k = np.diag([0.5, 0.5, 1.0]) @ k
        k[0, 2] -= _CROP[1]
        k[1, 2] -= _CROP[0]
    depth = None
    if depths is not None and is_there(path := depths / f"depth_map_{view - 1:04d}.pfm"):
        mask = depths / f"depth_visual_{view - 1:04d}.png"
        valid = mask if is_there(mask) else None
        depth = DepthFile(path, codec="pfm", valid=valid, min_valid=_MASK, **_MM)
    return Frame(
        name=image.stem,
        image=image,
        number=view,
        pose=pose,
        pose_convention="w2c",
        depth=depth,
        rig=Rig(color=k, size=_HALVED if small else _FULL),
        unit="mm",
    )


def _test_scan(folder: Path) -> Iterator[Listed]:
    frames = []
    for entry in entries_of(folder / "images")[0]:
        image = folder / "images" / entry.name
        if not image.stem.isdecimal():
            continue
        try:
            pose, k = read_mvsnet_camera(folder / "cams" / f"{image.stem}_cam.txt")
        except ImageError as error:
            yield Refused(image, str(error), is_frame=True)
            continue
        depth = folder / "depths" / f"{image.stem}.npy"
        mask = folder / "binary_masks" / f"{image.stem}.png"
        frames.append(
            Frame(
                name=image.stem,
                image=image,
                number=int(image.stem),
                pose=pose,
                pose_convention="w2c",
                depth=DepthFile(depth, codec="array", **_MM) if is_there(depth) else None,
                rig=Rig(color=k, size=_FULL),
                unit="mm",
                mask=mask if is_there(mask) else None,
            )
        )
    if not (folder / "depths").is_dir():
        yield Note(f"{folder.name}: no depths beside its images")
    number = _number(folder)
    frames.sort(key=lambda frame: frame_key(frame.name))
    yield Scene(
        scene_id=folder.name,
        folder=folder,
        frames=tuple(frames),
        order="number",
        split="val" if number in _TEST_SCANS else None,
        is_test=number in _TEST_SCANS,
    )


def _number(folder: Path) -> int:
    match = _SCAN.fullmatch(folder.name)
    assert match is not None, "found by this name"
    return int(match.group(1))


LAYOUT = Layout(
    name="dtu",
    summary="Rectified, Cameras and Depths; or <scan>/{images, cams, depths}",
    detect=_detect,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics", "mask"}),
    policy=Policy("orbit", most=3),
)
