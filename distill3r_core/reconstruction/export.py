"""Save a reconstruction in several formats, with its cameras and a preview image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from distill3r_core.io.exports.cameras import write_cameras
from distill3r_core.io.exports.upright_images import write_upright
from distill3r_core.reconstruction.formats import FORMATS, require_formats
from distill3r_core.reconstruction.loaded_views import full_size_images
from distill3r_core.reconstruction.local_views import LocalViews
from distill3r_core.reconstruction.point_cloud import CleanCloud, Cleaning, clean_cloud
from distill3r_core.reconstruction.preview import PreviewRow, spread, write_preview
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.untrusted.printable import printable_name


@dataclass(frozen=True)
class Export:
    """What the writer of a format is given."""

    scene: Reconstruction | LocalViews
    cleaned: CleanCloud | None  # the cloud; None where the views have no common world
    folder: Path
    title: str
    keep_exif: bool = False  # in copies of the images

    @property
    def world(self) -> tuple[Reconstruction, CleanCloud]:
        """The reconstruction and its cloud, for formats that need them."""
        assert isinstance(self.scene, Reconstruction) and self.cleaned is not None
        return self.scene, self.cleaned

    @property
    def comments(self) -> list[str]:
        """Lines for the header of a file: frame, unit, and what is known of the model."""
        facts = [*(f"{key}: {value}" for key, value in self.scene.about.items()), *self.scene.facts]
        # A license may have lines of its own, and any characters.
        return [printable_name(" ".join(fact.split())) for fact in facts]

    @cached_property
    def images(self) -> list[Path]:
        """Upright full-size copies of the images, in the order of the views; written once."""
        places = {view.loaded.name: index for index, view in enumerate(self.scene.views)}
        files = [Path()] * len(places)
        for loaded, pixels in full_size_images([view.loaded for view in self.scene.views]):
            source = loaded.path if loaded.frame is None else None
            files[places[loaded.name]] = write_upright(
                self.folder / "images",
                loaded.name,
                pixels,
                source=source,
                keep_exif=self.keep_exif,
            )
        return files


def save_reconstruction(
    scene: Reconstruction | LocalViews,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    *,
    cloud: CleanCloud | Cleaning | None = None,
    title: str = "scene",
    keep_exif: bool = False,
    on_format: Callable[[str], None] = lambda name: None,
) -> list[Path]:
    """Write files as `infer` does: the named formats, cameras and a preview image.

    >>> save_reconstruction(scene, "desk", ("ply", "glb", "colmap"))

    Args:
        formats: Names of formats; None: "ply", or "depth" where the views have no common world.
        cloud: The cloud of the scene, or how it is cleaned; None: as `infer` does by default.
        keep_exif: Keep metadata (place, time, camera) in copies of the images.
        on_format: Called with the name of each format that is written.

    Returns:
        The files, in the order of the formats.

    Raises:
        ConfigError: A format has another name.
        ExtraMissingError: A format needs a package that is not installed.
        ImageError: An image that is to be copied has changed since it was read.
        RequestError: A format needs what the scene does not have.
    """
    if formats is None:
        formats = ("ply",) if isinstance(scene, Reconstruction) else ("depth",)
    names = [formats] if isinstance(formats, str) else formats
    require_formats(names, has=scene.has)
    cleaned = None
    if isinstance(scene, Reconstruction):
        cleaned = cloud if isinstance(cloud, CleanCloud) else clean_cloud(scene, cloud)
    export = Export(scene, cleaned, Path(folder), title, keep_exif)
    files: dict[Path, None] = {}
    for name in names:
        files |= dict.fromkeys(FORMATS[name].write(export))
        on_format(name)
    path = export.folder / "cameras.json"
    write_cameras(path, [view.camera for view in scene.views], about=scene.about)
    rows = [
        PreviewRow(scene.views[index].loaded, scene.views[index].depth, scene.confidence_of(index))
        for index in spread(len(scene.views))
    ]
    return [*files, path, write_preview(export.folder, rows)]
