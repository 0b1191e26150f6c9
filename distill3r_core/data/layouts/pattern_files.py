"""Depth, poses and intrinsics that a pattern names beside images, matched to scenes and frames.

A file belongs to the scene whose folders have the same words in place of the wildcards, and to the
image whose name has; where names tell less, to the image nearest in time.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.data.layouts.camera_files import read_camera, says_rectified
from distill3r_core.data.layouts.glob_patterns import (
    MatchedFile,
    Pattern,
    has_folder_wildcards,
    matched_files,
)
from distill3r_core.data.layouts.recordings.stamps import associate, read_trajectory, times_in
from distill3r_core.data.layouts.records import DepthFile, Frame, Note, Rig
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.errors import ConfigError, ImageError
from distill3r_core.files import open_file, read_text_file
from distill3r_core.io.images.depth_codecs import npz_depth_type
from distill3r_core.report import counted
from distill3r_core.untrusted.npy_header import read_npy_header

Number = Annotated[float, Field(allow_inf_nan=False)]
_MILLIMETERS = 1000.0
_MATRIX_NUMBERS, _POSE_NUMBERS = 16, 8
_FLOAT_CODECS = {".npy": "array", ".npz": "npz", ".pfm": "pfm", ".exr": "exr", ".h5": "h5"}


@dataclass(frozen=True, kw_only=True, config=config.STRICT)
class FilesBeside:
    """Globs below the root for what lies beside the images; None: there is none.

    Args:
        depth: Depth maps that show what the images show, as large as these.
        depth_scale: Stored units of depth in a meter; None: 1000 of 16-bit images and arrays of
            whole numbers, 1 of other arrays, PFM, EXR and HDF5.
        poses: Text files of sixteen numbers, one an image; or one trajectory of TUM's form a scene.
        intrinsics: A file a scene, or one for all; or fx, fy, cx, cy, pixel centers at +0.5.
    """

    depth: Pattern | None = None
    depth_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    poses: Pattern | None = None
    intrinsics: Pattern | tuple[Number, Number, Number, Number] | None = None

    @model_validator(mode="after")
    def _check(self) -> "FilesBeside":
        if self.depth_scale is not None and self.depth is None:
            raise ValueError("depth_scale is given, and no depth")
        return self


class BesideIndex:
    """What lies beside the images of a root, found once and told by scene.

    Args:
        root: What all patterns start from.
        beside: Globs of the files.
        scenes: What the images' folders have in place of their wildcards, of every scene.
        skip: A folder whose files are none of the data.

    Raises:
        ConfigError: A pattern names no file, or none of a scene.
    """

    def __init__(
        self,
        root: Path,
        beside: FilesBeside,
        scenes: Sequence[tuple[str, ...]],
        skip: Path | None = None,
    ) -> None:
        self._root, self._beside, self._scenes = root, beside, set(scenes)
        self._is_one = len(self._scenes) == 1
        self._files: dict[str, dict[tuple[str, ...], list[MatchedFile]]] = {}
        self._cameras: dict[tuple[Path, bool], tuple[Rig, str | None]] = {}
        for name in ("depth", "poses", "intrinsics"):
            pattern = getattr(beside, name)
            if not isinstance(pattern, str):
                continue
            groups = self._files.setdefault(pattern, {})
            for file in matched_files(root, pattern, skip):
                groups.setdefault(file.folders, []).append(file)
            if not groups:
                raise ConfigError(f"{name}: {pattern!r} names no file")
            alone = not has_folder_wildcards(pattern) and (name == "intrinsics" or self._is_one)
            if self._scenes and self._scenes.isdisjoint(groups) and not alone:
                theirs, ours = "/".join(min(groups)) or "nothing", "/".join(min(self._scenes))
                raise ConfigError(
                    f"{name}: {pattern!r} fits no scene: its folders stand for {theirs}, those of "
                    f"the images for {ours or 'nothing'}",
                    hint="the same wildcards in the folders of both say which files belong "
                    "together",
                )

    def unclaimed(self) -> Iterator[Note]:
        """Remarks on files whose folders are those of no scene."""
        for pattern, groups in self._files.items():
            if has_folder_wildcards(pattern):
                spare = sum(len(g) for scene, g in groups.items() if scene not in self._scenes)
                if spare:
                    yield Note(f"{counted(spare, 'file', 'belong')} to no scene: {pattern!r}")

    def attach(
        self, shown: str, images: Sequence[MatchedFile], frames: Sequence[Frame]
    ) -> Iterator[Frame | Note]:
        """The frames of a scene with what lies beside them, in the order of their times.

        Args:
            shown: Name of the scene, for remarks on what has no partner.
            images: Its images.
            frames: A frame for each of them.

        Raises:
            ImageError: Files do not fit the images, or cannot be read.
        """
        matched = self._beside.depth is not None or self._beside.poses is not None
        if matched and len({image.key for image in images}) < len(images):
            raise ImageError("two of its images have the same name, so their files cannot be told")
        depths: Mapping[int, Path] = {}
        poses: Mapping[int, Path | np.ndarray] = {}
        rig: Rig | None = None
        if (pattern := self._beside.depth) is not None:
            files = self._of_scene(images[0].folders, pattern)
            depths = _partners(images, files)
            yield from _alone(shown, "depth map", len(images), len(depths), len(files))
        if (pattern := self._beside.poses) is not None:
            poses = _poses(images, self._of_scene(images[0].folders, pattern))
            yield from _alone(shown, "pose", len(images), len(poses), len(poses))
        if self._beside.intrinsics is not None:
            rig, remark = self._rig(images[0], self._beside.intrinsics)
            if remark is not None:
                yield Note(f"{shown}: {remark}")
        scale = self._beside.depth_scale
        if scale is None:  # by the numbers of the first one
            first = next(iter(depths.values()), None)
            scale = _MILLIMETERS if first is not None and _is_whole(first) else 1.0
        order = range(len(images))
        if matched and (times := _times(images)) is not None:
            order = sorted(order, key=times.__getitem__)
        for number in order:
            depth = None
            if (path := depths.get(number)) is not None:
                codec = _FLOAT_CODECS.get(path.suffix.lower(), DepthFile.codec)
                depth = DepthFile(path, codec, scale=scale)
            yield replace(frames[number], depth=depth, pose=poses.get(number), rig=rig)

    def _of_scene(self, scene: tuple[str, ...], pattern: str) -> list[MatchedFile]:
        """Files of a scene; those of a pattern for one folder belong to a scene that is alone."""
        files = self._files[pattern]
        if self._is_one and not has_folder_wildcards(pattern):
            return [file for group in files.values() for file in group]
        return files.get(scene, [])

    def _rig(
        self, image: MatchedFile, intrinsics: str | tuple[float, float, float, float]
    ) -> tuple[Rig | None, str | None]:
        """Cameras of the scene of an image, and a remark."""
        if not isinstance(intrinsics, str):
            fx, fy, cx, cy = intrinsics
            return Rig(checked_intrinsics(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))), None
        files = self._files[intrinsics]
        found = files.get(image.folders, [])
        if not has_folder_wildcards(intrinsics):
            found = [file for group in files.values() for file in group]
        if not found:
            return None, f"no file {intrinsics!r} belongs to it"
        if len(found) > 1:
            raise ImageError(f"{len(found)} files {intrinsics!r} belong to it, not one")
        (file,) = found
        # What lies above the root is no topic of the recording.
        places = (image.path.parent.relative_to(self._root), file.path.relative_to(self._root))
        camera = file.path, any(map(says_rectified, places))
        if camera not in self._cameras:
            self._cameras[camera] = read_camera(file.path, rectified=camera[1])
            return self._cameras[camera]
        return self._cameras[camera][0], None  # its remark was made for another scene


def _partners(images: Sequence[MatchedFile], files: Sequence[MatchedFile]) -> dict[int, Path]:
    """The file of each image, by the image's number: by names, or by times where these tell more.

    Raises:
        ImageError: Neither tells any.
    """
    by_key = {file.key: file.path for file in files}
    if len(by_key) < len(files):
        raise ImageError("two of the files beside its images have the same name")
    named = {
        number: by_key[image.key] for number, image in enumerate(images) if image.key in by_key
    }
    ours, theirs = _times(images), _times(files)
    if len(named) < len(images) and ours is not None and theirs is not None:
        taken = set(named.values())
        mine = sorted((time, n) for n, time in enumerate(ours) if n not in named)
        other = sorted(
            (t, f.path) for t, f in zip(theirs, files, strict=True) if f.path not in taken
        )
        pairs = associate([time for time, _ in mine], [time for time, _ in other])
        return named | {mine[one][1]: other[two][1] for one, two in pairs.items()}
    if files and not named:
        first, second = images[0].path.name, files[0].path.name
        raise ImageError(f"{first} and {second}: the names do not match and are not times")
    return named


def _poses(
    images: Sequence[MatchedFile], files: Sequence[MatchedFile]
) -> Mapping[int, Path | np.ndarray]:
    """Poses by the image's number: a matrix of its name, or the pose of a trajectory at its time.

    Raises:
        ImageError: There are several files, and neither names nor times tell them.
    """
    if len(files) != 1 or _is_matrix(files[0].path):
        return _partners(images, files)
    trajectory, times = read_trajectory(files[0].path), _times(images)
    found: dict[int, np.ndarray] = {}
    for number, image in enumerate(images):
        words = "_".join(image.key)
        counter = words if words.isascii() and words.isdecimal() else None
        time = None if times is None else times[number]
        if (pose := trajectory.of_image(counter, time=time)) is not None:
            found[number] = pose
    return found


def _is_matrix(path: Path) -> bool:
    """Whether a file is one pose of sixteen numbers, not a trajectory."""
    try:
        lines = [line.split() for line in read_text_file(path).splitlines()]
    except (OSError, UnicodeDecodeError):
        return False  # its reader says what is wrong with it
    counts = {len(words) for words in lines if words}
    # Two lines of eight are a trajectory of two poses.
    return sum(map(len, lines)) == _MATRIX_NUMBERS and counts != {_POSE_NUMBERS}


def _times(files: Sequence[MatchedFile]) -> list[float] | None:
    """The times in the names of files; None where not all are times, or two are the same."""
    times = times_in(["_".join(file.key) for file in files])
    return times if times is not None and len(set(times)) == len(times) else None


def _alone(scene: str, what: str, images: int, found: int, files: int) -> Iterator[Note]:
    if images > found:
        yield Note(f"{scene}: {counted(images - found, 'image', 'have', of=images)} no {what}")
    if files > found:
        yield Note(f"{scene}: {counted(files - found, what, 'belong', of=files)} to no image")


def _is_whole(path: Path) -> bool:
    """Whether a depth map is made of whole numbers: an image, or an array of a whole type."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        return suffix not in _FLOAT_CODECS
    with contextlib.suppress(OSError, ValueError, ImageError):
        if suffix == ".npz":
            return np.issubdtype(npz_depth_type(path), np.integer)
        with open_file(path) as file:
            _, kind = read_npy_header(file, size=path.stat().st_size)
            return np.issubdtype(kind, np.integer)
    return False  # it is refused when it is read
