"""What the teachers share whose networks see all views of a sample in one pass."""

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.io.images.teacher_fit import TeacherFit, common_windows
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.system.allocator import keep_freed_memory
from distill3r_core.teachers.cost import TeacherCost
from distill3r_core.teachers.loaded_teacher import LoadedTeacher
from distill3r_core.types import PreparedView, RawMaps

_KEPT_BLOCK, _KEPT = 1 << 30, 1 << 30  # bytes
THRESHOLD = 0.3  # on confidence - 1 (arXiv:2602.00865, equation 1)
Precision = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class SceneMaps:
    """What a network says of the views of one sample, all of one size.

    Args:
        points_local: Points in each camera's own frame.
        confidence: In [1, inf).
        world_from_cam: Pose of each view, in the unit of the points and any frame.
        points_world: Points in that frame, where they are not the local ones moved.
        intrinsics: K of each map, where the local points are depth times the pixel's ray.
    """

    points_local: Float[Tensor, "N H W 3"]
    confidence: Float[Tensor, "N H W"]
    world_from_cam: Float[Tensor, "N 4 4"]
    points_world: Float[Tensor, "N H W 3"] | None = None
    intrinsics: Float[Tensor, "N 3 3"] | None = None


@runtime_checkable
class SceneNetwork(Protocol):
    """A network together with how its outputs are read."""

    @property
    def device(self) -> torch.device: ...
    @property
    def size(self) -> Any: ...  # of the network, as its teacher's cost takes it

    def run(
        self,
        images: Float[Tensor, "N 3 H W"],
        views: Sequence[PreparedView],
        on_progress: StepCallback,
    ) -> SceneMaps:
        """Predict the maps of all views.

        Args:
            images: RGB in [0, 1], on the network's device.
            views: The same views, for what else is known about them.
            on_progress: Called between steps; may raise in order to stop.
        """
        ...


class MultiviewTeacher(LoadedTeacher):
    """A teacher around a network that sees all views of a sample in one pass.

    Args:
        name: Name of the teacher.
        licenses: Licenses of its weights.
        network: The network, in evaluation mode on its device.
        fit: How it takes images.
        settings: The teacher's own settings, with a field `precision`.
        cost: What a prediction takes.
        weights: The file that the network was loaded from, for its hash.
        metric: Its maps are in meters wherever the unit of the views' poses is a length.
    """

    max_views = None
    threshold = THRESHOLD

    def __init__(
        self,
        name: str,
        licenses: tuple[str, ...],
        network: SceneNetwork,
        *,
        fit: TeacherFit,
        settings: Any,
        cost: TeacherCost,
        weights: Path | None = None,
        metric: bool = False,
    ) -> None:
        super().__init__(fit, settings, weights)
        self.name, self.licenses, self.network = name, licenses, network
        self.metric = metric
        self._cost = cost
        if network.device.type == "cpu":  # where a tenth of a pass were page faults
            keep_freed_memory(block=_KEPT_BLOCK, kept=_KEPT)

    @torch.inference_mode()
    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """All views in one pass; views of several sizes are cropped to what all of them show.

        Raises:
            OutOfMemoryError: The pass would not fit into the memory of a CPU.
        """
        device = self.network.device
        sizes = [(view.image.shape[1], view.image.shape[2]) for view in views]
        windows = common_windows(sizes)
        self._cost.require_memory(
            self.network.size,
            len(views),
            windows[0][2:],
            settings=self._settings,
            device=device,
            name=self.name,
        )
        cropped = [_cropped(view, window) for view, window in zip(views, windows, strict=True)]
        images = torch.stack([view.image for view in cropped]).to(device)
        with autocast(self._settings.precision, device):
            maps = self.network.run(images, cropped, on_progress)
        return _raw_maps(maps, sizes, windows)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The precision of a network's trunk: "auto" is bfloat16 on a GPU, float32 elsewhere."""
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def _cropped(view: PreparedView, window: tuple[int, int, int, int]) -> PreparedView:
    """The part of a view that is in a window; its depth and placement stay those of the whole."""
    top, left, rows, columns = window
    intrinsics = view.intrinsics
    if intrinsics is not None:
        intrinsics = intrinsics.clone()
        intrinsics[0, 2] -= left
        intrinsics[1, 2] -= top
    image = view.image[:, top : top + rows, left : left + columns]
    return dataclasses.replace(view, image=image, intrinsics=intrinsics)


def _raw_maps(
    maps: SceneMaps, sizes: Sequence[tuple[int, int]], windows: Sequence[tuple[int, int, int, int]]
) -> RawMaps:
    """The maps on the CPU, at the size of each view, in the frame of the first one's camera."""
    poses = maps.world_from_cam.double().cpu()
    anchor = invert_rigid(poses[:1])
    local = _placed(maps.points_local.float().cpu(), sizes, windows, 0.0)
    confidence = _placed(maps.confidence.float().cpu(), sizes, windows, 1.0)
    world = None
    if maps.points_world is not None:
        moved = maps.points_world.cpu().double() @ anchor[0, :3, :3].T + anchor[0, :3, 3]
        world = _placed(moved.float(), sizes, windows, 0.0)
    masks = None  # where the network has seen all of every view
    if any(window != (0, 0, *size) for size, window in zip(sizes, windows, strict=True)):
        seen = torch.ones(len(sizes), *windows[0][2:], dtype=torch.bool)
        masks = _placed(seen, sizes, windows, 0.0)
    intrinsics = None
    if maps.intrinsics is not None:
        intrinsics = maps.intrinsics.float().cpu().clone()
        for k, (top, left, _, _) in zip(intrinsics, windows, strict=True):
            k[0, 2] += left
            k[1, 2] += top
    return RawMaps(
        points_local=local,
        confidence_local=confidence,
        confidence_global=confidence,
        points_global=world,
        valid_mask=masks,
        # A map of the network's own is what the similarity is fitted to.
        global_from_local=(anchor @ poses)[:, :3].float() if world is None else None,
        intrinsics=intrinsics,
    )


def _placed(
    maps: Shaped[Tensor, "N H W *channels"],
    sizes: Sequence[tuple[int, int]],
    windows: Sequence[tuple[int, int, int, int]],
    outside: float,
) -> list[Tensor]:
    """Each map at its window of a map of the view's size."""
    placed = []
    for one, size, (top, left, rows, columns) in zip(maps, sizes, windows, strict=True):
        whole = one.new_full((*size, *one.shape[2:]), outside)
        whole[top : top + rows, left : left + columns] = one
        placed.append(whole)
    return placed
