"""Views that the local head alone has seen: each in its own camera's frame, with no world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.io.exports.cameras import Pinhole, write_cameras
from distill3r_core.io.exports.view_arrays import write_depth_maps, write_predictions
from distill3r_core.reconstruction.head_options import require_formats
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.pinholes import map_intrinsics, own_focal, pinhole_of
from distill3r_core.reconstruction.preview import Shown, spread, write_preview
from distill3r_core.reconstruction.scale import Scale
from distill3r_core.reconstruction.view_maps import Maps, ViewMap, turned_back
from distill3r_core.report import Failure, Progress, Silent

_ABOUT = {
    "frame": "OpenCV axes (x right, y down, z forward) of each view's own camera",
    "poses": "not known, as the local head was run alone",
}
_LEFT_OUT = (
    "points_global, confidence_global, points_aligned, world_from_cam, world_from_local: "
    "the global head was not run"
)


@dataclass(frozen=True)
class LocalView:
    """A view by itself.

    Args:
        loaded: The picture.
        seen: Its map, in its own camera's frame and a unit of its own.
        camera: Of the full-size picture; where it stood is not known.
    """

    loaded: LoadedView
    seen: ViewMap
    camera: Pinhole

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """z in the camera's frame, in the view's own unit."""
        return self.seen.points[..., 2]


@dataclass(frozen=True)
class LocalViews:
    """Views each by itself.

    Args:
        views: In order.
        facts: About the model, for the headers of files.
    """

    views: tuple[LocalView, ...]
    facts: tuple[str, ...] = ()

    @property
    def scale(self) -> Scale:
        """Of the lengths."""
        return Scale(source="lengths of one view compare with each other only")

    def save(
        self,
        folder: str | Path,
        formats: Sequence[str] = ("depth",),
        *,
        on_format: Callable[[str], None] = lambda name: None,
    ) -> list[Path]:
        """Write files as `infer --head local` does: the named formats, cameras and a preview.

        Args:
            folder: Where files go.
            formats: "depth", "npz", or both.
            on_format: Called with each format that is written.

        Returns:
            The files.

        Raises:
            RequestError: A format needs a world.
        """
        names = [formats] if isinstance(formats, str) else formats
        require_formats("local", names)
        folder, about = Path(folder), {**_ABOUT, **self.scale.as_plain()}
        files: dict[Path, None] = {}
        for name in names:
            save = self._save_depth if name == "depth" else self._save_npz
            files |= dict.fromkeys(save(folder, about))
            on_format(name)
        path = folder / "cameras.json"
        write_cameras(path, [view.camera for view in self.views], about=about)
        few = spread(self.views)
        shown = [Shown(view.loaded, view.depth, view.seen.confidence) for view in few]
        return [*files, path, write_preview(folder, shown)]

    def _save_depth(self, folder: Path, about: dict[str, str]) -> list[Path]:
        depths = {view.camera.name: view.depth for view in self.views}
        return write_depth_maps(folder / "depth", depths, self._intrinsics, about=about)

    def _save_npz(self, folder: Path, about: dict[str, str]) -> list[Path]:
        path = folder / "predictions.npz"
        arrays = [
            {
                "image": view.loaded.fitted.image,
                "points_local": view.seen.points,
                "confidence_local": view.seen.confidence,
                "depth": view.depth,
                "intrinsics": self._intrinsics[view.camera.name],
            }
            for view in self.views
        ]
        more = {"depth": "z of points_local", "left_out": _LEFT_OUT}
        write_predictions(path, arrays, list(self._intrinsics), about=about | more)
        return [path]

    @property
    def _intrinsics(self) -> dict[str, Float[np.ndarray, "3 3"]]:
        """Of the maps, by the views' names."""
        return {
            view.camera.name: map_intrinsics(view.camera, view.loaded.fitted.placement)
            for view in self.views
        }


def see_alone(
    loaded: Sequence[LoadedView], maps: Sequence[Maps], *, progress: Progress | None = None
) -> tuple[tuple[LocalView, ...], tuple[Failure, ...]]:
    """Views with their own intrinsics, and those of which no point is a number.

    Args:
        loaded: The pictures.
        maps: What the student's local head says about them.
        progress: Reports every view.
    """
    progress = progress or Silent()
    progress.begin("cameras", total=len(loaded), unit="views")
    views, failed = [], []
    for picture, said in map(turned_back, loaded, maps):
        assert said.local is not None, "these are views of the local head"
        if said.local.finite.any():
            camera = pinhole_of(picture, own_focal(picture, said.local), said)
            views.append(LocalView(picture, said.local, camera))
        else:
            failed.append(Failure(str(picture.path or picture.name), "no point of it is a number"))
        progress.advance()
    return tuple(views), tuple(failed)
