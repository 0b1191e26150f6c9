"""Targets that look like a teacher's, built from RGB-D frames, for measuring the cache.

Real geometry, smoothed so that the sensor's steps do not make it too easy or too hard; the noise is
that of a network's output: 0.2 % of the distance, correlated over a few pixels. It is no real
network output, and the tables say so.
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
from distill3r_core.io.images.fit import Fit, fit_image
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.types import TeacherTargets

Variant = Literal["clean", "noisy", "independent", "depth"]

VARIANTS: tuple[Variant, ...] = ("clean", "noisy", "independent", "depth")
SIZE = (224, 518)  # of the targets
FIT = Fit(size=SIZE, mode="release", teacher=DUST3R_FIT)
PNG_SIZE = (720, 960)  # of the original project's stored pictures
_TEACHER = (384, 512)  # size the teacher predicts at
_FOCAL = 585 / 640  # of the sensor, in widths of the picture
_NOISE = 0.002  # of the distance
_DRIFT = 0.005  # of an independent global map, at low frequency
_CONFIDENCE = (-6.0, 3.36)  # range of its logarithm, less one
_BILATERAL = (4, 0.06, 4.0)  # radius in pixels, sigma in metres, sigma in pixels


@dataclass(frozen=True)
class Frame:
    """One RGB-D frame on disk."""

    color: Path
    depth: Path
    pose: Path


class BenchSamples:
    """Samples of both formats, made when they are first needed.

    Args:
        frames: Enough for whole samples.
        views: Of a sample.
        work: A folder that is removed afterwards.
    """

    def __init__(self, frames: Sequence[Frame], views: int, work: Path) -> None:
        self.frames, self.views, self.work = frames, views, work
        self.samples = len(frames) // views
        self.cache_folder = work / "cache"
        self._targets: dict[tuple[int, Variant], TeacherTargets] = {}

    def name(self, sample: int) -> str:
        """Of a sample in the cache."""
        return f"bench/scene/{sample:03d}"

    def group(self, sample: int) -> Sequence[Frame]:
        """Frames of a sample."""
        return self.frames[sample * self.views : (sample + 1) * self.views]

    def targets(self, sample: int, variant: Variant) -> TeacherTargets:
        """Targets of a sample. Only those that are used again are kept."""
        key = (sample, variant)
        if key in self._targets:
            return self._targets[key]
        made = make_targets(self.group(sample), variant, seed=sample)
        if variant == "noisy":
            self._targets[key] = made
        return made

    def release_folder(self, sample: int, variant: Variant) -> Path:
        """Where the original's format has a sample; its PNGs are there."""
        folder = self.work / ("release" if variant == "noisy" else variant) / f"{sample:03d}"
        if variant == "noisy" and not folder.exists():
            folder.mkdir(parents=True)
            for view, frame in enumerate(self.group(sample)):
                write_png(frame, folder / f"{view}.png", seed=sample * self.views + view)
        return folder

    def pictures(self, sample: int) -> UInt8[Tensor, "N 3 H W"]:
        """At the student's size, by the original's chain."""
        folder = self.release_folder(sample, "noisy")
        fitted = []
        for view in range(self.views):
            with Image.open(folder / f"{view}.png") as image:
                fitted.append(fit_image(np.asarray(image), FIT, portrait=False).image)
        return torch.from_numpy(np.stack(fitted)).movedim(-1, 1).contiguous()

    def writer(self) -> CacheWriter:
        """Of the cache that is measured."""
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
        """A sample for the cache, pictures included."""
        detail = {"pictures": [str(frame.color) for frame in self.group(sample)]}
        return encoder.encode(self.name(sample), str(sample), images, targets, detail)

    def cache(self) -> TeacherCache:
        """The cache that is measured."""
        return TeacherCache(self.cache_folder)


def find_frames(folder: Path, count: int) -> list[Frame]:
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
            frames.append(Frame(color, depth, pose))
    if len(frames) < count:
        raise InputMissingError(
            f"{folder} has {len(frames)} RGB-D frames (*.depth.png, *.color.jpg, *.pose.txt), "
            f"{count} are needed",
            hint="name a folder of 7-Scenes, or ask for less with --samples or --views",
        )
    return frames[:count]


def fingerprint(frames: Sequence[Frame]) -> str:
    """A hash of all bytes of the frames, in order."""
    digest = hashlib.sha256()
    for frame in frames:
        for path in (frame.color, frame.depth, frame.pose):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def make_targets(frames: Sequence[Frame], variant: Variant, *, seed: int = 0) -> TeacherTargets:
    """One sample's targets, in float32, every pixel valid.

    Args:
        frames: One per view.
        variant: "clean" has no noise; "noisy" has; the global map of "independent" is a prediction
            of its own; "depth" is the clean one with its maps made of depth times ray.
        seed: Of the noise.
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


def write_png(frame: Frame, path: Path, *, seed: int) -> int:
    """The original project's stored picture of a frame; gives its bytes.

    The frame is enlarged to 960x720 as a camera's picture would be larger, with a sensor's noise.
    """
    rng = np.random.default_rng(seed)
    with Image.open(frame.color) as image:
        height, width = PNG_SIZE
        large = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(large, np.float32) + rng.normal(0, 1.0, (height, width, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, compress_level=3)
    return path.stat().st_size


@lru_cache(maxsize=256)  # every variant shows the same frames
def smooth_depth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Depth in metres without holes and steps of the sensor, and where the holes were."""
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
    """Noise of unit variance that neighbours share."""
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
