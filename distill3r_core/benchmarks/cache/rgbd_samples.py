"""Samples with targets like a network's, made from RGB-D frames, for measuring the cache.

The geometry is real, smoothed to remove the quantization of the sensor. The noise is like that of a
network: 0.2 % of the distance, correlated over a few pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.sample_codec import EncodedSample, SampleEncoder
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.errors import InputMissingError
from distill3r_core.geometry.cameras import rays
from distill3r_core.io.images.depth import read_png16
from distill3r_core.io.images.fit import ImageFit, fit_image
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.types import TeacherTargets

Variant = Literal["clean", "noisy", "independent", "depth"]

VARIANTS: tuple[Variant, ...] = ("clean", "noisy", "independent", "depth")
SIZE = (224, 518)  # of the targets
FIT = ImageFit(size=SIZE, mode="release", teacher=DUST3R_FIT)
PNG_SIZE = (720, 960)  # size of the images that the original project stores
_TEACHER = (384, 512)  # size of the teacher's maps
_FOCAL = 585 / 640  # focal length of the sensor over the width of its image
_NOISE = 0.002  # over the distance
_DRIFT = 0.005  # low-frequency error of an independent global map, over the distance
_CONFIDENCE = (-6.0, 3.36)  # range of log(confidence - 1)
_BILATERAL = (4, 0.06, 4.0)  # radius in pixels, sigma in meters, sigma in pixels


@dataclass(frozen=True)
class RgbdFrame:
    """Files of one RGB-D frame."""

    color: Path
    depth: Path
    pose: Path


class RgbdSamples:
    """Samples in both formats, made when they are first needed.

    Args:
        frames: Frames of all samples, in order.
    """

    def __init__(self, frames: Sequence[RgbdFrame], views: int, work: Path) -> None:
        self.frames, self.views, self.work = frames, views, work
        self.samples = len(frames) // views
        self.cache_folder = work / "cache"
        self._targets: dict[tuple[int, Variant], TeacherTargets] = {}

    def name(self, sample: int) -> str:
        """Name of a sample in the cache."""
        return f"bench/scene/{sample:03d}"

    def group(self, sample: int) -> Sequence[RgbdFrame]:
        """Frames of a sample."""
        return self.frames[sample * self.views : (sample + 1) * self.views]

    def targets(self, sample: int, variant: Variant) -> TeacherTargets:
        """Targets of a sample; those that are used again are kept in memory."""
        key = (sample, variant)
        if key in self._targets:
            return self._targets[key]
        made = rgbd_targets(self.group(sample), variant, seed=sample)
        if variant == "noisy":
            self._targets[key] = made
        return made

    def original_folder(self, sample: int, variant: Variant) -> Path:
        """Folder of a sample in the original's format, with its PNG images."""
        folder = self.work / ("release" if variant == "noisy" else variant) / f"{sample:03d}"
        if variant == "noisy" and not folder.exists():
            folder.mkdir(parents=True)
            for view, frame in enumerate(self.group(sample)):
                write_png(frame, folder / f"{view}.png", seed=sample * self.views + view)
        return folder

    def images(self, sample: int) -> UInt8[Tensor, "N 3 H W"]:
        """Images of a sample at the student's size, fitted as the original does."""
        folder = self.original_folder(sample, "noisy")
        fitted = []
        for view in range(self.views):
            with Image.open(folder / f"{view}.png") as image:
                fitted.append(fit_image(np.asarray(image), FIT, portrait=False).image)
        return torch.from_numpy(np.stack(fitted)).movedim(-1, 1).contiguous()

    def writer(self) -> CacheWriter:
        """Writer of the measured cache."""
        plan = tuple(
            PlannedSample(self.name(sample), str(sample), "train") for sample in range(self.samples)
        )
        header = CacheHeader("bench", "", None, SIZE, FIT.as_plain(), None, True, plan=plan)
        return CacheWriter(self.cache_folder, header)

    def encode(
        self,
        encoder: SampleEncoder,
        sample: int,
        images: UInt8[Tensor, "N 3 H W"],
        targets: TeacherTargets,
    ) -> EncodedSample:
        """A sample for the cache, with its images."""
        detail = {"pictures": [str(frame.color) for frame in self.group(sample)]}
        return encoder.encode(self.name(sample), str(sample), images, targets, detail)

    def cache(self) -> TeacherCache:
        """The measured cache."""
        return TeacherCache(self.cache_folder)


def find_frames(folder: Path, count: int) -> list[RgbdFrame]:
    """The first frames under a folder, searched recursively, in order.

    Raises:
        InputMissingError: There are fewer.
    """
    frames = []
    for depth in sorted(folder.rglob("*.depth.png")):
        stem = depth.name.removesuffix(".depth.png")
        colors = [depth.with_name(f"{stem}.color.{end}") for end in ("jpg", "png")]
        color = next((path for path in colors if path.is_file()), None)
        pose = depth.with_name(f"{stem}.pose.txt")
        if color is not None and pose.is_file():
            frames.append(RgbdFrame(color, depth, pose))
    if len(frames) < count:
        raise InputMissingError(
            f"{folder} has {len(frames)} RGB-D frames (*.depth.png, *.color.jpg, *.pose.txt), "
            f"{count} are needed",
            hint="name a folder of 7-Scenes, or ask for less with --samples or --views",
        )
    return frames[:count]


def fingerprint(frames: Sequence[RgbdFrame]) -> str:
    """A hash of all bytes of the frames, in order."""
    digest = hashlib.sha256()
    for frame in frames:
        for path in (frame.color, frame.depth, frame.pose):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def rgbd_targets(frames: Sequence[RgbdFrame], variant: Variant, *, seed: int = 0) -> TeacherTargets:
    """One sample's targets, in float32, every pixel valid.

    Args:
        frames: One frame per view.
        variant: "clean" has no noise, "noisy" has; the global map of "independent" is predicted
            independently; "depth" is clean, its maps being depth times ray.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    poses = [np.loadtxt(frame.pose) for frame in frames]
    first = np.linalg.inv(poses[0])
    camera = _camera(_TEACHER)
    local, own, similarities, confidences = [], [], [], []
    for frame, pose in zip(frames, poses, strict=True):
        depth, holes = smooth_depth(frame.depth)
        z = _gaussian(_resize(depth, _TEACHER), 1.0)
        base = z[..., None] * rays(torch.from_numpy(camera), _TEACHER).numpy()
        base = base.astype(np.float32)
        distance = np.linalg.norm(base, axis=-1, keepdims=True)
        noise = _NOISE * distance * _correlated(rng, 3)
        points = base if variant in ("clean", "depth") else base + noise
        motion = first @ pose
        scale = 1 + 0.02 * rng.standard_normal()
        similarity = np.concatenate([scale * motion[:3, :3], motion[:3, 3:]], 1).astype(np.float32)
        if variant == "independent":
            moved = base @ similarity[:, :3].T + similarity[:, 3]
            moved = moved + _NOISE * distance * _correlated(rng, 3)
            own.append(_to_size(moved + _DRIFT * distance * _low_frequency(rng, 3)))
        noisy = variant in ("noisy", "independent")
        confidences.append(_confidence(rng, z, holes, noisy=noisy))
        local.append(_to_size(points))
        similarities.append(torch.from_numpy(similarity))
    points_local = torch.stack(local)
    intrinsics = None
    if variant == "depth":
        intrinsics = torch.from_numpy(_camera(SIZE).astype(np.float32)).expand(len(frames), 3, 3)
        points_local = rays(intrinsics.double(), SIZE).float() * points_local[..., 2:]
    confidence = torch.stack(confidences)
    return TeacherTargets(
        points_local=points_local,
        confidence_local=confidence[:, 0],
        confidence_global=confidence[:, 1],
        valid_mask=torch.ones(points_local.shape[:3], dtype=torch.bool),
        global_from_local=torch.stack(similarities),
        stored_points_global=torch.stack(own) if own else None,
        intrinsics=intrinsics,
    )


def write_png(frame: RgbdFrame, path: Path, *, seed: int) -> int:
    """Write the image that the original project stores of a frame; returns its bytes.

    The frame is enlarged to 960x720, with the noise of a sensor, like the image of a larger camera.
    """
    rng = np.random.default_rng(seed)
    with Image.open(frame.color) as image:
        height, width = PNG_SIZE
        large = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(large, np.float32) + rng.normal(0, 1.0, (height, width, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, compress_level=3)
    return path.stat().st_size


@lru_cache(maxsize=256)  # all variants are made from the same frames
def smooth_depth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Depth in meters without the holes and steps of the sensor, and the mask of the holes."""
    raw = read_png16(path)
    holes = (raw == 0) | (raw == 65535)
    found = ndimage.distance_transform_edt(holes, return_distances=False, return_indices=True)
    filled = raw[tuple(np.asarray(found))].astype(np.float32) / 1000
    depth = _bilateral(ndimage.median_filter(filled, 5))
    soft = _gaussian(holes.astype(np.float32), 3.0)
    return depth * (1 - soft) + _gaussian(depth, 6.0) * soft, holes


def _bilateral(depth: np.ndarray) -> np.ndarray:
    radius, depth_sigma, pixel_sigma = _BILATERAL
    padded = np.pad(depth, radius, mode="reflect")
    height, width = depth.shape
    total, weights = np.zeros_like(depth), np.zeros_like(depth)
    for down in range(2 * radius + 1):
        for across in range(2 * radius + 1):
            apart = (down - radius) ** 2 + (across - radius) ** 2
            if apart > radius**2:
                continue
            shifted = padded[down : down + height, across : across + width]
            weight = np.exp(
                -0.5 * ((shifted - depth) / depth_sigma) ** 2 - 0.5 * apart / pixel_sigma**2
            )
            total += weight * shifted
            weights += weight
    return total / weights


def _confidence(
    rng: np.random.Generator, z: np.ndarray, holes: np.ndarray, *, noisy: bool
) -> Tensor:
    """Local and global confidence: lower far away, at edges and at holes."""
    edges = np.abs(ndimage.laplace(_gaussian(z, 2.0)))
    near_holes = _gaussian(_resize(holes.astype(np.float32), _TEACHER), 4.0)
    field = (
        2.6
        - 0.35 * z
        - np.minimum(1.5, 40 * _gaussian(edges, 3.0))
        + 0.3 * _low_frequency(rng, 1)[..., 0]
        - 1.5 * near_holes
    )
    maps = []
    for shift in (0.0, -0.3):
        logarithm = field + shift + 0.2 * _low_frequency(rng, 1)[..., 0]
        if noisy:
            logarithm = logarithm + 0.01 * _correlated(rng, 1)[..., 0]
        maps.append(1 + np.exp(np.clip(logarithm, *_CONFIDENCE)))
    return _to_size(np.stack(maps, -1).astype(np.float32)).movedim(-1, 0)


def _camera(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    # The maps are stretched to the student's shape: the focal lengths differ.
    down = _FOCAL * _TEACHER[1] * height / _TEACHER[0]
    return np.array([[_FOCAL * width, 0, width / 2], [0, down, height / 2], [0, 0, 1]])


def _correlated(rng: np.random.Generator, channels: int) -> np.ndarray:
    """Spatially correlated noise of unit variance."""
    noise = rng.standard_normal((*_TEACHER, channels)).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, (1.1, 1.1, 0), truncate=2 / 1.1)
    return noise / noise.std()


def _low_frequency(rng: np.random.Generator, channels: int) -> np.ndarray:
    coarse = torch.from_numpy(rng.standard_normal((1, channels, 8, 8)).astype(np.float32))
    fine = interpolate(coarse, size=_TEACHER, mode="bicubic", align_corners=False)
    return fine[0].movedim(0, -1).numpy()


def _resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    planes = torch.from_numpy(values.astype(np.float32))[None, None]
    return interpolate(planes, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _to_size(maps: np.ndarray) -> Tensor:
    """Maps at the size of the targets, as the release's exporter resizes them."""
    planes = torch.from_numpy(np.ascontiguousarray(maps, np.float32)).movedim(-1, 0)[None]
    resized = interpolate(planes, size=SIZE, mode="bilinear", align_corners=False)
    return resized[0].movedim(0, -1).contiguous()


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(values, sigma)
