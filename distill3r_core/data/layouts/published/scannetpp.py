"""Layout `scannetpp`: ScanNet++, rooms by an SLR camera and by a phone.

`data/<10 hex digits>/{dslr, iphone}`. `dslr/resized_images` is fisheye: undistorted images are
taken where they are there. Facts: scannetpp/scannetpp, naver/dust3r, HengyiWang/spann3r.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distill3r_core.data.colmap_model import ColmapCamera, ColmapImage, has_model, read_model
from distill3r_core.data.layouts.folders import entries_of, frame_key, one_dataset, order_of
from distill3r_core.data.layouts.marked_scenes import marked_scenes
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    LeftOut,
    Listed,
    Note,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.manifest_cells import Split
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, read_text_file, refuse_special
from distill3r_core.io.images.media_kinds import IMAGE_SUFFIXES
from distill3r_core.untrusted.printable import reason_of

_SCENE = re.compile(r"[0-9a-f]{10}")
_UNDISTORTED = ("resized_undistorted_images", "undistorted_images")
_FISHEYE = "resized_images"
IS_FISHEYE = (
    "its images are fisheye: a teacher of pinhole images is wrong on them (the toolkit of "
    "ScanNet++ undistorts them: undistorted_images)"
)
_OF_PHONE_PACKED = ("rgb.mkv", "depth.bin")
_OF_PHONE_DEPTHS = ("render_depth", "depth")  # of the laser scan's mesh, before the phone's own
_OF_PHONE = Policy("path", reference=200, most=10)  # every tenth frame of its video
_SPLITS: tuple[tuple[str, Split], ...] = (
    ("nvs_sem_train.txt", "train"),
    ("nvs_sem_val.txt", "val"),
)


@dataclass(frozen=True)
class _Cameras:
    """What is known of a sequence's cameras: the COLMAP model, and K of undistorted images."""

    cameras: Mapping[int, ColmapCamera]
    images: Mapping[str, ColmapImage]
    undistorted: Rig | None = None

    def pose(self, name: str) -> np.ndarray | None:
        image = self.images.get(name)
        return None if image is None else image.cam_from_world

    def rig(self, name: str) -> Rig | None:
        """K of the image's own camera; None: there is none, or it is a fisheye."""
        image = self.images.get(name)
        camera = None if image is None else self.cameras[image.camera]
        if camera is None or camera.is_fisheye or camera.intrinsics is None:
            return None
        return Rig(checked_intrinsics(camera.intrinsics), (camera.height, camera.width))


def _mark(folder: Path) -> str | None:
    dslr = folder / "dslr"
    has_images = any((dslr / name).is_dir() for name in (*_UNDISTORTED, _FISHEYE))
    has_images = has_images or (folder / "iphone" / "rgb").is_dir()
    is_scene = bool(_SCENE.fullmatch(folder.name)) and has_images
    return "has a scene of ScanNet++" if is_scene else None


def holds_fisheye(folder: Path) -> bool:
    """Whether a folder of images is, by its place, one of the data set's fisheye images."""
    return (folder.parent.name, folder.name) == ("dslr", _FISHEYE)


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    """The rooms below a folder, split as the data set's lists say.

    Raises:
        RequestError: A list is a pipe or a device.
        OSError: One cannot be read.
    """
    splits: dict[str, Split] = {}
    for folder in (root / "splits", root.parent / "splits"):
        for name, split in _SPLITS:
            if is_there(folder / name):
                refuse_special(folder / name)
                words = read_text_file(folder / name, errors="replace").split()
                splits.update(dict.fromkeys(words, split))
    yield from marked_scenes(root, skip, _mark, partial(_list_place, splits=splits))


def _list_place(folder: Path, place: str, *, splits: Mapping[str, Split]) -> Iterator[Listed]:
    for part in (_dslr, _iphone):
        try:
            yield from part(folder, place, splits.get(folder.name))
        except ImageError as error:
            yield Refused(folder, str(error))


def _dslr(folder: Path, scene_id: str, split: Split | None) -> Iterator[Listed]:
    dslr = folder / "dslr"
    chosen = next((n for n in (*_UNDISTORTED, _FISHEYE) if (dslr / n).is_dir()), None)
    if chosen is None:
        return
    fisheye = chosen == _FISHEYE
    if fisheye:
        yield Note(f"{scene_id}/dslr: {IS_FISHEYE}")
    known = _read_cameras(dslr)
    blurred = _blurred(dslr)
    frames = []
    for image in _images(dslr / chosen):
        if image.name in blurred:
            yield LeftOut(image, "blurred, by the data set's own mark")
            continue
        rig = None if fisheye else known.undistorted
        depth = dslr / "undistorted_depths" / f"{image.stem}.png"
        mask = dslr / "resized_anon_masks" / f"{image.stem}.png"
        frames.append(
            Frame(
                name=image.stem,
                image=image,
                pose=known.pose(image.name),
                pose_convention="w2c",
                depth=DepthFile(depth, any_size=True)
                if rig is not None and is_there(depth)
                else None,
                rig=rig,
                camera="fisheye" if fisheye else "pinhole",
                mask=mask if fisheye and is_there(mask) else None,
            )
        )
    yield _scene_of(f"{scene_id}/dslr", dslr, frames, split, folder.name)


def _iphone(folder: Path, scene_id: str, split: Split | None) -> Iterator[Listed]:
    phone = folder / "iphone"
    if not (phone / "rgb").is_dir():
        if packed := [name for name in _OF_PHONE_PACKED if is_there(phone / name)]:
            yield Note(
                f"{scene_id}/iphone: {' and '.join(packed)} left out: the phone's images and depth "
                "are read once the toolkit of ScanNet++ has extracted them "
                "(iphone/prepare_iphone_data.py)"
            )
        return
    known = _read_cameras(phone)
    pinholes = (camera for camera in known.cameras.values() if camera.intrinsics is not None)
    if any(any(camera.distortion) for camera in pinholes):
        yield Note(f"{scene_id}/iphone: its images are distorted; the pinhole of their K is taken")
    frames = []
    for image in _images(phone / "rgb"):
        rig = known.rig(image.name)
        depths = (phone / name / f"{image.stem}.png" for name in _OF_PHONE_DEPTHS)
        depth = None if rig is None else next(filter(is_there, depths), None)
        mask = phone / "rgb_masks" / f"{image.stem}.png"
        frames.append(
            Frame(
                name=image.stem,
                image=image,
                pose=known.pose(image.name),
                pose_convention="w2c",
                depth=None if depth is None else DepthFile(depth, any_size=True),
                rig=rig,
                mask=mask if is_there(mask) else None,
            )
        )
    yield replace(
        _scene_of(f"{scene_id}/iphone", phone, frames, split, folder.name), policy=_OF_PHONE
    )


def _scene_of(
    scene_id: str, folder: Path, frames: list[Frame], split: Split | None, place: str
) -> Scene:
    return Scene(
        scene_id,
        folder,
        tuple(frames),
        order=order_of(frame.name for frame in frames),
        split=split,
        is_test=split in (None, "val"),
        place=place,
    )


def _images(folder: Path) -> list[Path]:
    paths = (folder / entry.name for entry in entries_of(folder)[0])
    found = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found, key=lambda path: frame_key(path.name))


def _read_cameras(part: Path) -> _Cameras:
    """Cameras of a part; names in a phone's model have a folder before them.

    Raises:
        ImageError: A file is damaged.
    """
    cameras, images = read_model(part / "colmap") if has_model(part / "colmap") else ({}, [])
    undistorted = None
    content = _transforms(part / "nerfstudio" / "transforms_undistorted.json")
    if content:
        try:
            fx, fy, cx, cy = (float(content[name]) for name in ("fl_x", "fl_y", "cx", "cy"))
            size = (int(content["h"]), int(content["w"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ImageError(
                f"transforms_undistorted.json is damaged: {reason_of(error)}"
            ) from error
        k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        undistorted = Rig(checked_intrinsics(k), size)
    return _Cameras(cameras, {Path(image.name).name: image for image in images}, undistorted)


def _blurred(dslr: Path) -> set[str]:
    """Names of images that the data set marks as blurred.

    Raises:
        ImageError: The file is damaged.
    """
    content = _transforms(dslr / "nerfstudio" / "transforms.json")
    lists = [content.get(name) or [] for name in ("frames", "test_frames")]
    if not all(isinstance(part, list) for part in lists):
        raise ImageError("transforms.json is damaged: its frames are no list")
    listed = [frame for part in lists for frame in part]
    return {
        Path(str(frame.get("file_path"))).name
        for frame in listed
        if isinstance(frame, dict) and frame.get("is_bad")
    }


def _transforms(path: Path) -> Mapping[str, Any]:
    """The content of a JSON file; empty where it is not there.

    Raises:
        ImageError: It is damaged.
    """
    if not is_there(path):
        return {}
    try:
        content = json.loads(read_text_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    if not isinstance(content, dict):
        raise ImageError(f"{path.name} is no JSON object")
    return content


LAYOUT = Layout(
    name="scannetpp",
    summary="data/<scene>/{dslr, iphone}",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics", "mask"}),
    policy=Policy("path", reference=200, most=5),
)
