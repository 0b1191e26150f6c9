"""Where the teacher's features of a batch come from: the cache, or the teacher's encoder.

A term of the objective that compares features names the layers it reads. `CachedFeatures` has the
loader read them beside the samples; `LiveFeatures` runs an encoder on the images that the student
sees, augmented as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.augment import unit_images
from distill3r_core.data.loading.batches import Batch
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import ConfigError

Features = Mapping[str, Float[Tensor, "B N h w C"]]  # by layer


@runtime_checkable
class FeatureSource(Protocol):
    """Gives the teacher's features of a batch."""

    def features(self, batch: Batch) -> Features:
        """Features by layer, in float32 or the teacher's precision, on the device of the batch."""
        ...

    def channels(self) -> dict[str, int]:
        """Channels of each layer."""
        ...


@runtime_checkable
class FeatureEncoder(Protocol):
    """A teacher's encoder.

    Attributes:
        feature_channels: Channels of each layer whose features it gives.
    """

    @property
    def feature_channels(self) -> Mapping[str, int]: ...

    def encode_features(
        self, images: Float[Tensor, "B N 3 H W"], layer: str
    ) -> Float[Tensor, "B N h w C"]:
        """Features of a layer for images in [0, 1], one vector per patch."""
        ...


@dataclass(frozen=True)
class CachedFeatures:
    """Features that are stored in a teacher cache; the loader reads them with the samples."""

    cache: TeacherCache | CacheUnion  # its headers declare the layers
    layers: tuple[str, ...]

    def features(self, batch: Batch) -> Features:
        """See `FeatureSource`."""
        return {layer: batch.features[layer].float() for layer in self.layers}

    def channels(self) -> dict[str, int]:
        """See `FeatureSource`."""
        whole = self.cache
        first = whole.members[0].cache if isinstance(whole, CacheUnion) else whole
        return {layer: first.header.features[layer] for layer in self.layers}

    def shapes(self, name: str) -> dict[str, tuple[int, int, int]]:
        """Rows, columns and channels of a sample's features, by layer.

        Raises:
            CacheError: The cache lacks the sample or a layer.
            DamageError: The stored bytes are not those that were written.
        """
        return {layer: self.cache.feature_shape(name, layer) for layer in self.layers}

    def read_into(
        self, name: str, views: Sequence[int], out: Mapping[str, Float16[np.ndarray, "N _h _w _C"]]
    ) -> None:
        """Unpack features of a sample's views, in that order, into the caller's memory.

        Raises:
            CacheError: The cache lacks the sample or a layer.
            DamageError: The stored bytes are not those that were written.
        """
        for layer in self.layers:
            self.cache.read_features_into(name, layer, views, out[layer])

    def check(self, *, mirror: bool, crops: bool, nearby: bool) -> None:
        """Check before a run that the features are there and fit its augmentations.

        Raises:
            CacheError: The cache lacks a layer.
            ConfigError: Images are mirrored, parts of them shown, or seen by other cameras; the
                features of a mirrored image are not the mirrored features of the image.
        """
        for layer in self.layers:
            self.cache.require_layer(layer)
        for name, is_on, off in (
            ("data.mirror", mirror, "--set data.mirror=false"),
            ("data.zoom and data.aspect", crops, "--set data.zoom=1 --set data.aspect=1"),
            ("data.turn and data.shift", nearby, "--set data.turn=0 --set data.shift=0"),
        ):
            if is_on:
                raise ConfigError(
                    f"{name} cannot be used with cached teacher features ({self.layers[0]}): they "
                    "are those of the images as they are stored",
                    hint=f"{off}, or --set features.source=live, which runs the teacher's encoder "
                    "on the images as they are shown",
                )


@dataclass(frozen=True)
class LiveFeatures:
    """Features that the teacher's encoder computes from the augmented images of a batch."""

    encoder: FeatureEncoder
    layers: tuple[str, ...]

    def features(self, batch: Batch) -> Features:
        """See `FeatureSource`."""
        images = unit_images(batch.images, batch.colors)
        with torch.no_grad():
            return {layer: self.encoder.encode_features(images, layer) for layer in self.layers}

    def channels(self) -> dict[str, int]:
        """See `FeatureSource`."""
        return {layer: self.encoder.feature_channels[layer] for layer in self.layers}
