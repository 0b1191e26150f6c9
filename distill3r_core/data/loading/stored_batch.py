"""A batch as it is stored, in memory that is used again, and how a device finishes it.

What lies here is what the cache holds: float16 planes, bytes of images, a few numbers per view.
Those numbers are made ready in the machine's memory; whatever has a value per pixel is computed on
the device, where nothing waits for it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int, UInt8
from torch import Tensor

from distill3r_core.cache.maps.maps_layout import DEPTH_PLANES
from distill3r_core.cache.sample_codec import finish
from distill3r_core.cache.store import ViewBuffers
from distill3r_core.data.loading import augment
from distill3r_core.data.loading.batches import Batch, Draw
from distill3r_core.data.loading.nearby_views import see_from
from distill3r_core.data.loading.sample_requests import SampleRequest
from distill3r_core.geometry.similarity import apply_similarity, compose
from distill3r_core.types import TeacherTargets

_FEATURES = "features/"  # before the name of a layer
_ALIGNED = 64  # bytes: where a tensor may begin


class CopyEvent:
    """Tells when a GPU has read memory that is to be written again."""

    def __init__(self) -> None:
        self._copied: torch.cuda.Event | None = None

    def mark(self, device: torch.device) -> None:
        """What was enqueued so far has to be over."""
        if device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Until it is."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None


@dataclass(frozen=True)
class StoredBatch:
    """Samples of one size, with equally many views, as they are stored.

    Args:
        global_from_local: `[sR | t]`, into the frame of the anchor or scene that was asked for.
        anchor_from_stored: Carries a global map that is stored on its own into that frame.
    """

    planes: Float16[Tensor, "B N P H W"]
    mask: UInt8[Tensor, "B N H W"]  # 1 where valid
    images: UInt8[Tensor, "B N 3 H W"]  # RGB
    global_from_local: Float[Tensor, "B N 3 4"]
    anchor_from_stored: Float[Tensor, "B 1 3 4"]
    own_global: Bool[Tensor, "B N"]  # whether a view's planes of a global map are the teacher's own
    local_only: Bool[Tensor, "B N"]  # whether a view has no place in a common frame
    intrinsics: Float[Tensor, "B N 3 3"]  # K of each map; read where there are DEPTH_PLANES planes
    inverse: Float[Tensor, "B N 3 3"]
    mirrored: Bool[Tensor, "B"]
    colors: Float[Tensor, "B N 5"]
    crops: Float[Tensor, "B N 4"]
    motions: Float[Tensor, "B N 3 4"]
    view_numbers: Int[Tensor, "B N"]  # among those that the student tells apart
    requests: tuple[SampleRequest, ...]
    features: Mapping[str, Float16[Tensor, "B N _h _w _C"]] = field(default_factory=dict)
    fence: CopyEvent = field(default_factory=CopyEvent)

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Where its samples come from."""
        return tuple(request.draw for request in self.requests)

    def __len__(self) -> int:
        return len(self.requests)

    def rows(self, start: int, stop: int) -> "StoredBatch":
        """Some of its samples, in the same memory."""
        taken = slice(start, stop)
        tensors = {
            name: value[taken] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        features = {layer: values[taken] for layer, values in self.features.items()}
        requests = self.requests[taken]
        return StoredBatch(**tensors, requests=requests, features=features, fence=self.fence)

    def buffers(self, row: int) -> ViewBuffers:
        """The memory of one sample, for a source to read into."""
        return ViewBuffers(
            planes=self.planes[row].numpy().view(np.uint16),
            mask=self.mask[row].numpy(),
            images=self.images[row].numpy(),
            global_from_local=self.global_from_local[row].numpy(),
            intrinsics=self.intrinsics[row].numpy(),
            own_global=self.own_global[row].numpy(),
            local_only=self.local_only[row].numpy(),
        )

    def make_ready(self, row: int) -> None:
        """Compute a sample's few numbers, once it has been read, as its request wants them."""
        request, similarities = self.requests[row], self.global_from_local[row]
        back = torch.eye(3, 4)[None]
        if request.reanchored:
            back, moved = augment.anchored(similarities)
            similarities.copy_(moved)
        if request.scene_from_stored is not None:
            carried = torch.from_numpy(request.scene_from_stored)
            similarities.copy_(
                compose(carried.expand(len(similarities), 3, 4), similarities.double())
            )
            back = carried[None]
        self.anchor_from_stored[row] = back
        if self._has_cameras:
            torch.linalg.inv(self.intrinsics[row].double(), out=self.inverse[row])
        self.mirrored[row] = request.mirrored
        if request.colors is not None:
            self.colors[row] = torch.from_numpy(request.colors)
        if request.crops is not None:
            self.crops[row] = torch.from_numpy(request.crops)
        if request.motions is not None:
            self.motions[row] = torch.from_numpy(request.motions)
        numbers = request.view_numbers or tuple(range(len(request.views)))
        self.view_numbers[row] = torch.tensor(numbers)

    def to(self, device: torch.device) -> Batch:
        """Finished, on a device, in memory of its own; a GPU is not waited for."""

        def move(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True, copy=True)

        images, targets = move(self.images), self._finished(device)
        if any(request.mirrored for request in self.requests):
            mirrored = move(self.mirrored)
            images = augment.where_rows(mirrored, augment.mirror_images(images), images)
            targets = augment.choose_targets(mirrored, augment.mirror_targets(targets), targets)
        if self.requests[0].crops is not None:
            crops = move(self.crops)
            images, targets = (
                augment.crop_images(images, crops),
                augment.crop_targets(targets, crops),
            )
        if self.requests[0].motions is not None:
            # Without a scene the frame is the first view's camera, wherever that now is.
            anchored = self.requests[0].scene_from_stored is None
            images, targets = see_from(images, targets, move(self.motions), anchored=anchored)
        batch = Batch(
            images=images,
            targets=targets,
            view_numbers=move(self.view_numbers),
            colors=None if self.requests[0].colors is None else move(self.colors),
            draws=self.draws,
            features={layer: move(values) for layer, values in self.features.items()},
        )
        self.fence.mark(device)
        return batch

    @property
    def _has_cameras(self) -> bool:
        return self.planes.shape[2] == DEPTH_PLANES

    def _finished(self, device: torch.device) -> TeacherTargets:
        def move(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True, copy=True)

        targets = finish(
            self.planes.to(device, non_blocking=True),
            self.mask.to(device, non_blocking=True),
            move(self.global_from_local),
            move(self.intrinsics) if self._has_cameras else None,
            inverse=self.inverse if self._has_cameras else None,
            # Asked of the machine's memory: nothing is masked where no view is without a place.
            local_only=move(self.local_only) if bool(self.local_only.any()) else None,
        )
        if targets.stored_points_global is None:
            return targets
        back = move(self.anchor_from_stored).expand_as(targets.global_from_local)
        own = apply_similarity(back, targets.stored_points_global)
        own = torch.where(targets.valid_mask[..., None], own, 0.0)
        derived = replace(targets, stored_points_global=None).points_global
        where_own = move(self.own_global)[..., None, None, None]
        return replace(targets, stored_points_global=torch.where(where_own, own, derived))


class BatchMemory:
    """Memory for one batch, of any shape; it grows to the largest one that was asked for.

    Args:
        pin: Page-locked memory, for copies to a GPU.
    """

    def __init__(self, *, pin: bool) -> None:
        self._pin = pin
        self._memory = torch.empty(0, dtype=torch.uint8)
        self.fence = CopyEvent()

    def batch(
        self,
        requests: Sequence[SampleRequest],
        *,
        planes: int,
        size: tuple[int, int],
        features: Mapping[str, tuple[int, int, int]] = MappingProxyType({}),
    ) -> StoredBatch:
        """Room for what is requested; whatever was here before is gone.

        Args:
            size: Rows and columns of a view.
            features: Rows, columns and channels of a view's stored features, by layer.
        """
        samples, views = len(requests), len(requests[0].views)

        def per_view(*shape: int, dtype: torch.dtype) -> tuple[tuple[int, ...], torch.dtype]:
            return (samples, views, *shape), dtype

        layout = {
            "planes": per_view(planes, *size, dtype=torch.float16),
            "mask": per_view(*size, dtype=torch.uint8),
            "images": per_view(3, *size, dtype=torch.uint8),
            "global_from_local": per_view(3, 4, dtype=torch.float32),
            "anchor_from_stored": ((samples, 1, 3, 4), torch.float32),
            "own_global": per_view(dtype=torch.bool),
            "local_only": per_view(dtype=torch.bool),
            "intrinsics": per_view(3, 3, dtype=torch.float32),
            "inverse": per_view(3, 3, dtype=torch.float64),
            "mirrored": ((samples,), torch.bool),
            "colors": per_view(augment.COLOR_FACTORS, dtype=torch.float32),
            "crops": per_view(4, dtype=torch.float32),
            "motions": per_view(3, 4, dtype=torch.float32),
            "view_numbers": per_view(dtype=torch.int64),
        }
        for layer, shape in features.items():
            layout[_FEATURES + layer] = per_view(*shape, dtype=torch.float16)
        tensors = self._carve(layout)
        streams = {layer: tensors.pop(_FEATURES + layer) for layer in features}
        return StoredBatch(**tensors, requests=tuple(requests), features=streams, fence=self.fence)

    def _carve(self, layout: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, Tensor]:
        places: dict[str, tuple[int, int]] = {}
        end = 0
        for name, (shape, dtype) in layout.items():
            length = math.prod(shape) * dtype.itemsize
            places[name] = end, length
            end += -(-length // _ALIGNED) * _ALIGNED
        if end > len(self._memory):
            self._memory = torch.empty(0, dtype=torch.uint8)  # the old one goes first
            # Touched here, so that the first epoch is as fast as the others.
            self._memory = torch.zeros(end, dtype=torch.uint8, pin_memory=self._pin)
        return {
            name: self._memory[start : start + length].view(layout[name][1]).view(layout[name][0])
            for name, (start, length) in places.items()
        }
