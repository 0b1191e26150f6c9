"""One scene of SpatialBench on disk: frames matched by their places in sorted folders."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from distill3r_core.data.matrix_files import check_pose
from distill3r_core.errors import ImageError
from distill3r_core.evaluation.spatialbench.decode import decode_depth, read_gray
from distill3r_core.evaluation.spatialbench.readers import Reader
from distill3r_core.evaluation.spatialbench.resize import resize_frame, stretch_nearest, undistort
from distill3r_core.files import is_there, open_file, read_text_file
from distill3r_core.io.images.decode import read_image
from distill3r_core.untrusted.npy_header import read_npy_file
from distill3r_core.untrusted.printable import reason_of

_IMAGES = frozenset({".png", ".jpg", ".jpeg"})
_DEPTHS = frozenset({".png", ".jpg", ".exr", ".npy", ".bin"})
_NOT_FRAMES = frozenset({"intrinsic", "K_rect", "K_distorted", "distortion_coeffs"})


def file_state(path: Path) -> str:
    """Size of a file and time of its last change, by which it is known again.

    Raises:
        ImageError: It cannot be looked at; the reason alone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read: {reason_of(error)}") from error
    return f"{status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True)
class BenchFrame:
    """A frame as a model sees it.

    Args:
        depth: Meters; 0 where unknown.
        intrinsics: K, pixel centers at 0.
        world_from_cam: None where the scene has no poses.
        sky_pixels: Pixels of the sky mask as the published readers give it: stretched to the size
            of `image`, without its crop, so that their number says how much sky there is, and
            nothing where; None: the scene does not say.
    """

    name: str
    image: UInt8[np.ndarray, "H W 3"]
    depth: Float[np.ndarray, "H W"]
    intrinsics: Float[np.ndarray, "3 3"]
    world_from_cam: Float[np.ndarray, "4 4"] | None
    sky_pixels: int | None


@dataclass(frozen=True)
class BenchScene:
    """A folder of images, depth, poses and intrinsics."""

    folder: Path
    reader: Reader

    @cached_property
    def meta(self) -> Mapping[str, Any]:
        """Its `meta.json`; {} without one.

        Raises:
            ImageError: It is not a JSON object.
        """
        path = self.folder / "meta.json"
        if not is_there(path):
            return {}
        try:
            found = json.loads(read_text_file(path))
        except (OSError, ValueError, RecursionError) as error:
            raise ImageError(f"meta.json is not JSON: {reason_of(error)}") from error
        if not isinstance(found, dict):
            raise ImageError("meta.json holds no object")
        return found

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """Image files, in order."""
        return self._files("images", _IMAGES)

    def check(self) -> None:
        """Refuse a scene in which files cannot be matched by their places.

        One missing file would shift all later frames.

        Raises:
            ImageError: The reason alone.
        """
        if not self.images:
            raise ImageError("images/ has no image")
        folders = {"depths": _DEPTHS, "poses": frozenset({".npy"})}
        if not self.reader.plain:
            folders |= dict.fromkeys(
                ("depth_masks", "aliasing_masks", "conf_masks", "sky_masks"), _IMAGES
            )
        for name, suffixes in folders.items():
            count = len(self._files(name, suffixes))
            if count not in (0, len(self.images)):
                raise ImageError(
                    f"{name}/ has {count} files for {len(self.images)} images: which belongs to "
                    "which is not known"
                )
        if len(self._intrinsics()) not in (1, len(self.images)):
            raise ImageError("intrinsics/ has neither one file nor one for each image")

    def content(self) -> str:
        """Hash of the names, sizes and times of change of all files of the scene.

        Not of their bytes: the archives have tens of gigabytes, which scoring alone reads.

        Raises:
            ImageError: A file cannot be looked at; the reason alone.
        """
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        digest = hashlib.blake2b(digest_size=16)
        for path in files:
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name} {file_state(path)}\n".encode("utf-8", "replace"))
        return digest.hexdigest()

    def read(self, index: int) -> BenchFrame:
        """A frame, by its place.

        Raises:
            ImageError: A file cannot be read, or contradicts another; the reason alone.
        """
        path = self.images[index]
        image = read_image(path).pixels
        depth, sky = self._depth(index, (image.shape[0], image.shape[1]))
        files = self._intrinsics()
        intrinsics = _matrix(files[index if len(files) > 1 else 0], (3, 3))
        for flip in self.meta.get("pyrep_flip") or ():
            if flip.get("basename") == path.stem:
                image, depth = _flipped(image, depth, intrinsics, flip)
        if self.reader.quantile is not None:
            depth = np.where(depth > np.quantile(depth, self.reader.quantile), 0.0, depth)
        if self.reader.plain and self.meta.get("image_state") == "distorted_original":
            folder = self.folder / "intrinsics"
            image = undistort(
                image,
                _matrix(folder / "K_distorted.npy", (3, 3)),
                _load(folder / "distortion_coeffs.npy"),
                intrinsics,
            )
        first = read_image(self.images[0]).pixels.shape if self.reader.height is None else (0, 0)
        size = self.reader.size((first[0], first[1]))
        image, depth, intrinsics = resize_frame(image, depth, intrinsics, size)
        return BenchFrame(
            name=path.stem,
            image=image,
            depth=depth.astype(np.float32),
            intrinsics=intrinsics,
            world_from_cam=self._pose(index),
            sky_pixels=None if sky is None else int(stretch_nearest(sky, size).sum()),
        )

    def _depth(
        self, index: int, size: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"] | None]:
        files = self._files("depths", _DEPTHS)
        code = str(self.meta.get("depth_format", "none"))
        if not files or code == "none":
            return np.zeros(size, np.float32), None
        scale = float(self.meta.get("metric_scale", 1.0))
        depth, sky = decode_depth(files[index], code, metric_scale=scale)
        if not self.reader.plain:
            masks = ["depth_masks", *(["aliasing_masks"] if self.reader.aliasing_masks else [])]
            for name in masks:
                if (mask := self._gray(name, index, depth.shape)) is not None:
                    depth = np.where(mask == 0, 0.0, depth)
            confidence = self._gray("conf_masks", index, depth.shape)
            if confidence is not None:
                most = 65535.0 if self._is_16_bit("conf_masks", index) else 255.0
                depth = np.where(confidence / most < self.reader.min_confidence, 0.0, depth)
        depth = np.where(depth > self.reader.farthest, 0.0, depth)
        if (
            not self.reader.plain
            and (given := self._gray("sky_masks", index, depth.shape)) is not None
        ):
            sky = given != 0
            depth = np.where(sky, 0.0, depth)
        return depth, sky

    def _gray(
        self, folder: str, index: int, size: tuple[int, ...]
    ) -> Float[np.ndarray, "H W"] | None:
        files = self._files(folder, _IMAGES)
        if not files:
            return None
        found = read_gray(files[index])
        if found.shape != size:
            raise ImageError(f"{folder}/{files[index].name} is of another size than the depth")
        return found

    def _is_16_bit(self, folder: str, index: int) -> bool:
        from PIL import Image

        with open_file(self._files(folder, _IMAGES)[index]) as file, Image.open(file) as image:
            return image.mode.startswith("I")

    def _pose(self, index: int) -> Float[np.ndarray, "4 4"] | None:
        files = self._files("poses", frozenset({".npy"}))
        if not files or self.meta.get("pose") == "none":
            return None
        stored = _load(files[index])
        if stored.shape not in ((3, 4), (4, 4)):
            raise ImageError(f"pose {files[index].name} has the shape {stored.shape}")
        pose = np.eye(4)
        pose[: len(stored)] = stored
        check_pose(pose)
        return pose

    def _intrinsics(self) -> tuple[Path, ...]:
        folder = self.folder / "intrinsics"
        shared = self.meta.get("intrinsic_mode", "shared") == "shared" or self.reader.plain
        if shared:
            return (folder / "intrinsic.npy",)
        files = self._files("intrinsics", frozenset({".npy"}))
        return tuple(path for path in files if path.stem not in _NOT_FRAMES)

    def _files(self, folder: str, suffixes: frozenset[str]) -> tuple[Path, ...]:
        place = self.folder / folder
        if not place.is_dir():
            return ()
        return tuple(sorted(path for path in place.iterdir() if path.suffix.lower() in suffixes))


def _flipped(
    image: np.ndarray,
    depth: np.ndarray,
    intrinsics: Float[np.ndarray, "3 3"],
    flip: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Image and depth mirrored; moves K in place."""
    rows, columns = image.shape[:2]
    if flip.get("flip_lr"):
        image, depth = image[:, ::-1], depth[:, ::-1]
        intrinsics[0, 2] = columns - 1 - intrinsics[0, 2]
    if flip.get("flip_ud"):
        image, depth = image[::-1], depth[::-1]
        intrinsics[1, 2] = rows - 1 - intrinsics[1, 2]
    return np.ascontiguousarray(image), np.ascontiguousarray(depth)


def _matrix(path: Path, shape: tuple[int, int]) -> Float[np.ndarray, "..."]:
    found = _load(path)
    if found.shape != shape:
        raise ImageError(f"{path.name} has the shape {found.shape}, not {shape}")
    return found.astype(np.float64)


def _load(path: Path) -> Float[np.ndarray, "..."]:
    try:
        found = read_npy_file(path)
    except ValueError as error:
        raise ImageError(f"{path.name} cannot be read: {reason_of(error)}") from error
    if not np.isfinite(found).all():
        raise ImageError(f"{path.name} has values that are not finite")
    return found
