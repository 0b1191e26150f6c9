"""A reconstruction: views with their point maps and cameras in one world frame, and its cloud."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from distill3r_core.geometry import cleaning
from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.ply import Cloud
from distill3r_core.reconstruction.head_options import CloudSource
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.scale import Scale
from distill3r_core.reconstruction.view_maps import ViewMap

# A view that keeps less than this share of what all views keep on average is called low.
LOW_SHARE = 0.5


@dataclass(frozen=True)
class Cleaning:
    """Which points stay.

    Args:
        conf: The percentage of all points with the lowest confidence that goes.
        edges: Largest jump of depth between neighbors, as a share of it; 0 keeps all.
        voxel: Edge of the cubes that keep one point each, in the scene's unit; 0 keeps all.
        max_points: Drawn without preference where more are left.
        seed: Of that draw.
    """

    conf: float = 10.0
    edges: float = 0.0
    voxel: float = 0.0
    max_points: int = 1_000_000
    seed: int = 0


@dataclass(frozen=True)
class CarriedMap:
    """The local head's map of a view, and where it lies in the world.

    Args:
        seen: As predicted, in the view's own frame and unit.
        world_from_local: The similarity `[sR | t]` that carries its points into the world.
    """

    seen: ViewMap
    world_from_local: Float[np.ndarray, "3 4"]

    @property
    def in_world(self) -> ViewMap:
        """The map, carried into the world."""
        linear, shift = np.split(self.world_from_local.astype(np.float32), [3], axis=1)
        return ViewMap(self.seen.points @ linear.T + shift[:, 0], self.seen.confidence)

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """z of the local points in the world's unit."""
        scale = np.cbrt(np.linalg.det(self.world_from_local[:, :3]))
        return (scale * self.seen.points[..., 2]).astype(np.float32)


@dataclass(frozen=True)
class SolvedView:
    """A view with its place in the world.

    Args:
        loaded: The picture.
        in_world: The global head's map, in the world frame and unit.
        local: The local head's; None: that head was not run.
        camera: Of the full-size picture, in the world frame and unit.
        agreement: Of the closed-form pose with PnP: degrees, and the distance of the two camera
            centers as a share of the view's median depth. None where there are not both.
    """

    loaded: LoadedView
    in_world: ViewMap
    local: CarriedMap | None
    camera: Camera
    agreement: tuple[float, float] | None = None

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """z in the world's unit.

        By the local head, as far as it was run: in the view's camera as far as that is the
        similarity's; PnP's lies elsewhere. Else of the global points in the camera.
        """
        if self.local is not None:
            return self.local.depth
        pose = self.camera.world_from_cam
        return ((self.in_world.points - pose[:3, 3]) @ pose[:3, 2]).astype(np.float32)


@dataclass(frozen=True)
class Step:
    """A step of the cleaning: how many points came in and how many are left."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class CleanCloud:
    """The points that stay, each with where it comes from.

    Args:
        cloud: World frame.
        confidence: Of each point.
        view: Index of the view of each point.
        pixel: Row and column of each point in its view's map.
        steps: What each step of the cleaning took.
        kept: Share of its points that every view keeps after the confidence step.
    """

    cloud: Cloud
    confidence: Float[np.ndarray, "M"]
    view: Int64[np.ndarray, "M"]
    pixel: Int64[np.ndarray, "M 2"]
    steps: tuple[Step, ...]
    kept: tuple[float, ...]


@dataclass(frozen=True)
class Reconstruction:
    """Views in the frame of the first view's camera (OpenCV axes).

    Args:
        views: In order; the first one's pose is the identity.
        scale: What a length of 1 means.
        cloud_from: Which points make the cloud: the local ones carried by each view's similarity,
            which lie nearer to the truth on real frames (docs/benchmarks.md), or the global map's,
            which there are where the local head was not run.
        facts: About the model, for the headers of files.
    """

    views: tuple[SolvedView, ...]
    scale: Scale = dataclasses.field(default_factory=Scale)
    cloud_from: CloudSource = "aligned"
    facts: tuple[str, ...] = ()

    def map_of(self, view: SolvedView) -> ViewMap:
        """The points that a view adds to the cloud."""
        if self.cloud_from == "global":
            return view.in_world
        assert view.local is not None, "only local points can be carried"
        return view.local.in_world

    @property
    def cameras(self) -> list[Camera]:
        """Of the views, in order."""
        return [view.camera for view in self.views]

    def clean(self, settings: Cleaning | None = None) -> CleanCloud:
        """The cloud after the steps of the cleaning."""
        return _clean(self, settings or Cleaning())

    def save(
        self,
        folder: str | Path,
        formats: Sequence[str] = ("ply",),
        *,
        cleaning: Cleaning | None = None,
        title: str = "scene",
    ) -> list[Path]:
        """Write files as `infer` does: the named formats, cameras and a preview picture.

        Returns:
            The files.

        Raises:
            RequestError: A format has another name.
        """
        # The writers know this class: imported here, or each would import the other.
        from distill3r_core.reconstruction.exports import export

        names = [formats] if isinstance(formats, str) else formats
        return export(self, self.clean(cleaning), Path(folder), names, title=title)

    def scaled(self, factor: float, scale: Scale) -> "Reconstruction":
        """The same in another unit."""
        views = tuple(_scaled_view(view, factor) for view in self.views)
        return dataclasses.replace(self, views=views, scale=scale)


def low_views(kept: Sequence[float]) -> list[int]:
    """Views that keep far fewer points than the others do."""
    mean = sum(kept) / len(kept)
    return [index for index, share in enumerate(kept) if share < LOW_SHARE * mean]


def _clean(scene: Reconstruction, settings: Cleaning) -> CleanCloud:
    points, confidence = _flat(scene)
    chosen = np.flatnonzero(np.isfinite(points).all(-1) & np.isfinite(confidence))
    steps = [Step("finite", len(points), len(chosen))]

    def step(name: str, kept: Int64[np.ndarray, "_"]) -> None:
        nonlocal chosen
        steps.append(Step(name, len(chosen), len(kept)))
        chosen = kept

    step(
        f"confidence (lowest {settings.conf:g} %)",
        chosen[cleaning.above_percentile(confidence[chosen], settings.conf)],
    )
    kept = _kept(scene, chosen)
    if settings.edges:
        smooth = np.concatenate([_smooth(solved, settings.edges) for solved in scene.views])
        step(f"depth edges (over {settings.edges:g})", chosen[smooth[chosen]])
    if settings.voxel:
        one = cleaning.one_per_voxel(points[chosen], confidence[chosen], settings.voxel)
        step(f"voxels of {settings.voxel:g}", chosen[one])
    drawn = cleaning.at_most(len(chosen), settings.max_points, seed=settings.seed)
    step(f"at most {settings.max_points:,}", chosen[drawn])
    colors = np.concatenate([view.loaded.fitted.image.reshape(-1, 3) for view in scene.views])
    cloud = Cloud(points[chosen], colors[chosen])
    view, pixel = _places(scene, chosen)
    return CleanCloud(cloud, confidence[chosen], view, pixel, tuple(steps), kept)


def _kept(scene: Reconstruction, chosen: Int64[np.ndarray, "_"]) -> tuple[float, ...]:
    """The share of every view's points that is among the chosen ones."""
    totals = [view.in_world.confidence.size for view in scene.views]
    counts = np.bincount(_places(scene, chosen)[0], minlength=len(totals))
    return tuple(float(count / total) for count, total in zip(counts, totals, strict=True))


def _flat(scene: Reconstruction) -> tuple[np.ndarray, np.ndarray]:
    """Points and confidence of all views, one after the other."""
    maps = [scene.map_of(view) for view in scene.views]
    return (
        np.concatenate([seen.points.reshape(-1, 3) for seen in maps]),
        np.concatenate([seen.confidence.reshape(-1) for seen in maps]),
    )


def _places(
    scene: Reconstruction, chosen: Int64[np.ndarray, "K"]
) -> tuple[Int64[np.ndarray, "K"], Int64[np.ndarray, "K 2"]]:
    """The view of each point of the flat lists, and its row and column there."""
    sizes = [view.in_world.confidence.shape for view in scene.views]
    starts = np.cumsum([0, *(height * width for height, width in sizes)])
    view = np.searchsorted(starts, chosen, side="right") - 1
    widths = np.array([width for _, width in sizes])[view]
    return view, np.stack(np.divmod(chosen - starts[view], widths), axis=1)


def _smooth(solved: SolvedView, tolerance: float) -> Bool[np.ndarray, "M"]:
    depth = torch.from_numpy(np.ascontiguousarray(solved.depth))
    return cleaning.smooth_depth(depth, tolerance).numpy().reshape(-1)


def _scaled_view(view: SolvedView, factor: float) -> SolvedView:
    pose = view.camera.world_from_cam.copy()
    pose[:3, 3] *= factor
    points = (factor * view.in_world.points).astype(np.float32)
    local = view.local
    if local is not None:
        local = dataclasses.replace(local, world_from_local=factor * local.world_from_local)
    return dataclasses.replace(
        view,
        in_world=dataclasses.replace(view.in_world, points=points),
        local=local,
        camera=dataclasses.replace(view.camera, world_from_cam=pose),
    )
