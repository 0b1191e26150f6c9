"""A sample as records and back: teacher targets, images and where they came from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from distill3r_core.cache.feature_codec import FeatureDecoder, FeaturePacker
from distill3r_core.cache.image_codec import ImageDecoder, ImageEncoder
from distill3r_core.cache.maps.maps_decoder import MapsDecoder, StoredCamera
from distill3r_core.cache.maps.maps_encoder import MapsEncoder
from distill3r_core.cache.maps.maps_layout import DEPTH_PLANES, LOCAL_PLANES, Kind, StoredMaps
from distill3r_core.cache.packed_record import Packer, Unpacker
from distill3r_core.geometry.cameras import inverse_rays
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.types import TeacherTargets

Half = Float[Tensor, "*batch N P H W"]  # planes of float16, see maps_layout


@dataclass(frozen=True)
class EncodedSample:
    """A sample, packed: what a writer stores in one transaction.

    Args:
        features: One record per view, by layer.
    """

    name: str
    content: str  # hash of all that the teacher read
    kind: Kind
    size: tuple[int, int]
    maps: tuple[bytes, ...]  # one record per view
    images: tuple[bytes, ...]  # one record per view
    detail: Mapping[str, Any]  # paths, hashes and notes, as plain data
    features: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)

    @property
    def detail_bytes(self) -> bytes:
        """The detail as JSON."""
        return json.dumps(self.detail, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def bytes(self) -> int:
        """Size of all records."""
        features = (record for records in self.features.values() for record in records)
        return sum(map(len, (*self.maps, *self.images, *features, self.detail_bytes)))


class SampleEncoder:
    """Packs samples; one per thread.

    Args:
        exact_global: Store what the similarity lacks to the float16 global map, and the local map
            as it is: everything comes back bit for bit.
    """

    def __init__(self, *, exact_global: bool = False) -> None:
        packer = Packer()
        self._exact = exact_global
        self._maps, self._images = MapsEncoder(packer), ImageEncoder(packer)
        self._features = FeaturePacker(packer)

    def encode(
        self,
        name: str,
        content: str,
        images: UInt8[Tensor, "N 3 H W"],
        targets: TeacherTargets,
        detail: Mapping[str, Any],
        features: Mapping[str, Float[Tensor, "N _h _w _C"]] = MappingProxyType({}),
    ) -> EncodedSample:
        """Pack a sample, with teacher features by layer where they are to be stored.

        Raises:
            CacheError: A value at a valid pixel is not a finite float16; names the view.
        """
        kind = choose_kind(targets, exact_global=self._exact)
        maps = tuple(
            self._maps.encode(view, kind, name=f"{name}, view {index}")
            for index, view in enumerate(_views(targets, kind))
        )
        packed_images = tuple(self._images.encode(image.numpy()) for image in images)
        size = (images.shape[2], images.shape[3])
        streams = {
            layer: tuple(
                self._features.encode(view, name=f"{name}, view {index}, features/{layer}")
                for index, view in enumerate(views)
            )
            for layer, views in features.items()
        }
        return EncodedSample(name, content, kind, size, maps, packed_images, detail, streams)


class ViewDecoder:
    """Unpacks views into the caller's memory; one per thread."""

    def __init__(self) -> None:
        unpacker = Unpacker()
        self._maps, self._images = MapsDecoder(unpacker), ImageDecoder(unpacker)
        self.features = FeatureDecoder(unpacker)

    def maps(
        self, data: memoryview, planes: np.ndarray, mask: np.ndarray, *, thorough: bool = False
    ) -> StoredCamera:
        """See `MapsDecoder.decode`."""
        return self._maps.decode(data, planes, mask, thorough=thorough)

    def image(self, data: memoryview, out: np.ndarray, *, thorough: bool = False) -> None:
        """See `ImageDecoder.decode`."""
        self._images.decode(data, out, thorough=thorough)


def choose_kind(targets: TeacherTargets, *, exact_global: bool = False) -> Kind:
    """The least planes that say all of the targets, to within a float16 step.

    Args:
        targets: Targets of one sample, in float32.
        exact_global: Keep every float16 value; only what is no similarity gets planes of its own.
    """
    kind = Kind(0)
    if targets.intrinsics is not None and not exact_global and _is_depth(targets):
        kind |= Kind.DEPTH
    if targets.local_only is not None and targets.local_only.all():
        return kind | Kind.LOCAL_ONLY
    if targets.stored_points_global is not None and not _is_similar(targets):
        return kind | Kind.INDEPENDENT
    return kind | Kind.EXACT if exact_global else kind


def finish(
    planes: Half,
    mask: UInt8[Tensor, "*batch N H W"],
    global_from_local: Float[Tensor, "*batch N 3 4"],
    intrinsics: Float[Tensor, "*batch N 3 3"] | None = None,
    *,
    inverse: Float[Tensor, "*batch N 3 3"] | None = None,
    local_only: Bool[Tensor, "*batch N"] | None = None,
) -> TeacherTargets:
    """Targets in float32 from delivered planes, on the device they are on.

    Args:
        planes: As `maps_layout` counts them: 3, 5 or 8 a view.
        mask: 1 where valid.
        global_from_local: `[sR | t]`.
        intrinsics: K of each map, where there are 3 planes.
        inverse: Inverse of K in float64, on the CPU; None: K is inverted here, and a GPU
            waited for.
        local_only: See `TeacherTargets`.
    """
    height, width = planes.shape[-2:]
    count = planes.shape[-3]
    if count == DEPTH_PLANES:
        assert intrinsics is not None
        depth = planes[..., 0, :, :].float()
        known = torch.linalg.inv(intrinsics.cpu().double()) if inverse is None else inverse
        points = directions(known, (height, width), depth.device) * depth[..., None]
    else:
        points = _points(planes[..., :3, :, :])
    stored = _points(planes[..., 3:6, :, :]) if count > LOCAL_PLANES else None
    valid = mask.bool()
    return TeacherTargets(
        points_local=points,
        # Outside the mask planes are zero, and the least confidence there is is 1.
        confidence_local=torch.where(valid, planes[..., -2, :, :].float(), 1.0),
        confidence_global=torch.where(valid, planes[..., -1, :, :].float(), 1.0),
        valid_mask=valid,
        global_from_local=global_from_local,
        stored_points_global=stored,
        intrinsics=intrinsics,
        local_only=local_only,
    )


def _points(planes: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch H W 3"]:
    # Side by side in memory: the loss of maps that are still planes takes 1.4 times as long.
    return planes.movedim(-3, -1).contiguous().float()


def directions(
    inverse: Float[Tensor, "*batch 3 3"], size: tuple[int, int], device: torch.device
) -> Float[Tensor, "*batch H W 3"]:
    """Rays of every pixel, z = 1, rounded once to float32, from the inverse of K in float64."""
    # Double precision, so that the result does not depend on how a device multiplies; Apple's GPU
    # has none.
    there = torch.device("cpu") if device.type == "mps" else device
    return inverse_rays(inverse.to(there, non_blocking=True), size).float().to(device)


def float16_step(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The distance between neighbouring float16 at each value's magnitude, subnormals included."""
    # Zero has the exponent 0 by convention, and the subnormals' step.
    normal = values.abs().clamp(min=2.0**-14)
    exponent = torch.frexp(normal).exponent  # with a mantissa in [0.5, 1)
    return torch.ldexp(torch.ones_like(values), exponent - 11)


def _is_depth(targets: TeacherTargets) -> bool:
    """Whether depth times ray gives every valid point to within a float16 step."""
    assert targets.intrinsics is not None
    points = targets.points_local
    size = (points.shape[-3], points.shape[-2])
    depth = points[..., 2:].half().float()
    inverse = torch.linalg.inv(targets.intrinsics.double())
    product = directions(inverse, size, depth.device) * depth
    # On the axis x is a difference of large numbers: a millionth of the depth is float32's noise.
    allowed = float16_step(points) + depth.abs() * 2.0**-20
    close = ((product - points).abs() <= allowed).all(-1)
    return bool((close | ~targets.valid_mask).all())


def _is_similar(targets: TeacherTargets) -> bool:
    """Whether the similarity gives every valid global point to within the steps of float16."""
    assert targets.stored_points_global is not None
    truth, transform = targets.stored_points_global, targets.global_from_local
    moved = apply_similarity(transform, targets.points_local.half().float())
    scale = torch.linalg.norm(transform[..., :3], ord=2, dim=(-2, -1))[..., None, None, None]
    largest = targets.points_local.abs().amax(-1, keepdim=True) * scale
    allowed = float16_step(largest) + float16_step(truth.abs().amax(-1, keepdim=True))
    close = ((moved - truth).abs() <= allowed).all(-1)
    return bool((close | ~targets.valid_mask).all())


def _views(targets: TeacherTargets, kind: Kind) -> Sequence[StoredMaps]:
    """Every view's maps as float16 words."""
    local = _words(targets.points_local.movedim(-1, -3))
    confidence = _words(torch.stack([targets.confidence_local, targets.confidence_global], 1))
    stored = None
    if kind & (Kind.INDEPENDENT | Kind.EXACT):
        stored = _words(targets.points_global.movedim(-1, -3))
    masks: Bool[np.ndarray, "N H W"] = targets.valid_mask.numpy()
    transforms = targets.global_from_local.float().numpy()
    cameras = targets.intrinsics
    return [
        StoredMaps(
            points_local=local[index],
            confidence=confidence[index],
            mask=masks[index],
            global_from_local=transforms[index],
            points_global=None if stored is None else stored[index],
            intrinsics=None if cameras is None else cameras[index].float().numpy(),
        )
        for index in range(len(local))
    ]


def _words(values: Float[Tensor, "*shape"]) -> np.ndarray:
    return values.half().contiguous().numpy().view(np.uint16)
