"""Layout `video`: one file, which is a scene. Videos in a folder are scenes of `images`."""

from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.layouts.folders import dataset_name, one_dataset
from distill3r_core.data.layouts.records import Layout, Listed, VideoScene
from distill3r_core.io.images.media_kinds import media_kind


def _detect(root: Path) -> str | None:
    return "a video" if root.is_file() and media_kind(root) == "video" else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    yield VideoScene(dataset_name(root), root)


LAYOUT = Layout(
    name="video",
    summary="a video file",
    detect=_detect,
    scan=one_dataset(_list_scenes),
    takes_file=True,
)
