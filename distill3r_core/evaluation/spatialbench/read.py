"""Scenes of SpatialBench as ground truth: `<root>/<density>/<data set>/<scene>/`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from distill3r_core.data.conventions.check_data import DataCheck
from distill3r_core.data.manifest_views import content_hash, image_hash
from distill3r_core.errors import FailedError, ImageError, InputMissingError
from distill3r_core.evaluation.clouds.surface_files import read_surface_points
from distill3r_core.evaluation.clouds.tsdf import VolumeRules
from distill3r_core.evaluation.spatialbench.readers import READERS, Density, Reader
from distill3r_core.evaluation.spatialbench.scene import BenchFrame, BenchScene, file_state
from distill3r_core.evaluation.test_data import TestData
from distill3r_core.evaluation.truth import TrueSurface, Truth
from distill3r_core.evaluation.view_truth import NamedView, PrepareViews, check_view, truth_of
from distill3r_core.report import Failure, Progress
from distill3r_core.types import View

LAYOUT = "spatialbench"
_WITH_CLOUDS: tuple[Density, ...] = ("medium", "dense")


def read_spatialbench(
    root: Path, *, density: Density, prepare: PrepareViews, progress: Progress
) -> TestData:
    """All scenes of a density; each is one sequence.

    All are listed and checked at once, and each is read when it is reached: the archives have more
    than fits into memory. A scene whose files do not match, and a frame that cannot be read, is
    left out and named.

    Raises:
        InputMissingError: There is no scene.
    """
    found = [
        BenchScene(images.parent, READERS[name])
        for name in READERS
        for images in sorted((root / density / name).rglob("images"))
        if images.is_dir()
    ]
    if not found:
        raise InputMissingError(
            f"no scene of SpatialBench in {root / density}",
            hint=f"expected {root}/{density}/<data set>/<scene>/images, with the data sets "
            f"{', '.join(READERS)}",
        )
    progress.begin("check", total=len(found), unit="scenes")
    scenes: list[BenchScene] = []
    contents: list[str] = []
    failed: list[Failure] = []
    for scene in found:
        progress.advance()
        try:
            scene.check()
            contents += [_name(root, density, scene), *_parts(root, density, scene)]
            scenes.append(scene)
        except ImageError as error:
            failed.append(Failure(str(scene.folder), str(error)))
    return TestData(
        LAYOUT,
        _read_scenes(root, density, scenes, prepare, failed),
        views=sum(len(scene.images) for scene in scenes),
        contents=contents,
        seen=0,
        failed=failed,
        check=DataCheck(),
    )


def _read_scenes(
    root: Path,
    density: Density,
    scenes: Sequence[BenchScene],
    prepare: PrepareViews,
    failed: list[Failure],
) -> Iterator[Truth]:
    for scene in scenes:
        name = _name(root, density, scene)
        surface, path = None, _surface_file(root, density, scene)
        try:
            surface = _surface(path, scene.reader)
        except FailedError as error:  # depth and poses are scored all the same
            failed.append(Failure(str(path), error.message))
        # By no name of its own: a scene that has been scored is gone when the next one is read.
        yield from _read_scene(scene, name, surface, prepare, failed)


def _name(root: Path, density: Density, scene: BenchScene) -> str:
    return scene.folder.relative_to(root / density).as_posix()


def _parts(root: Path, density: Density, scene: BenchScene) -> list[str]:
    """Hashes of the files that decide the figures of a scene.

    Raises:
        ImageError: A file cannot be looked at; the reason alone.
    """
    surface = _surface_file(root, density, scene)
    if surface is None:
        return [scene.content()]
    place = surface.relative_to(root).as_posix()
    return [scene.content(), f"{place} {file_state(surface)}"]


def _read_scene(
    scene: BenchScene,
    name: str,
    surface: TrueSurface | None,
    prepare: PrepareViews,
    failed: list[Failure],
) -> tuple[Truth, ...]:
    """The truth of a scene; none where no frame of it can be used."""
    views: list[NamedView] = []
    for index, path in enumerate(scene.images):
        try:
            frame = scene.read(index)
            view = _view_of(frame)
            check_view(view)
            if not (frame.depth > 0).any():
                raise ImageError("no pixel has a depth")
        except ImageError as error:
            failed.append(Failure(str(path), str(error)))
            continue
        content = content_hash(
            image_hash(frame.image),
            depth=frame.depth,
            intrinsics=view.intrinsics,
            world_from_cam=view.world_from_cam,
            unit="m",
        )
        views.append(NamedView(frame.name, view, content))
    if not views:
        return ()
    truth, unusable = truth_of(name, name, views, prepare)
    failed += unusable
    return () if truth is None else (replace(truth, surface=surface),)


def _view_of(frame: BenchFrame) -> View:
    intrinsics = frame.intrinsics.copy()
    intrinsics[:2, 2] += 0.5  # here pixel centers are at +0.5
    return View(
        image=frame.image,
        intrinsics=intrinsics,
        depth=frame.depth,
        world_from_cam=frame.world_from_cam,
        unit="m",
    )


def _surface_file(root: Path, density: Density, scene: BenchScene) -> Path | None:
    """The data set's mesh or cloud: in the scene's folder below `pointcloud/`, or one above."""
    if scene.reader.clouds is None or density not in _WITH_CLOUDS:
        return None
    top = root / "pointcloud"
    for folder in (place := top / _name(root, density, scene), *place.parents):
        if not folder.is_relative_to(top) or folder == top:
            return None
        if found := sorted(folder.glob("*.ply")):
            return found[0]
    return None


def _surface(path: Path | None, reader: Reader) -> TrueSurface | None:
    rules = reader.clouds
    if path is None or rules is None:
        return None
    return TrueSurface(
        points=torch.from_numpy(np.asarray(read_surface_points(path))),
        volume=VolumeRules(rules.tsdf_voxel, rules.tsdf_truncation, rules.tsdf_farthest),
        voxel=rules.voxel,
        threshold=rules.threshold,
        margin=rules.margin,
    )
