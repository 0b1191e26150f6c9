"""Scenes of SpatialBench as ground truth: `<root>/<density>/<data set>/<scene>/`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from distill3r_core.data.conventions.check_data import DataCheck
from distill3r_core.data.manifest_views import content_hash, image_hash
from distill3r_core.errors import ImageError, InputMissingError
from distill3r_core.evaluation.clouds.surface_files import read_surface_points
from distill3r_core.evaluation.clouds.tsdf import VolumeRules
from distill3r_core.evaluation.spatialbench.readers import READERS, Density, Reader
from distill3r_core.evaluation.spatialbench.scene import BenchFrame, BenchScene
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

    A scene whose files do not match, and a frame that cannot be read, is left out and named.

    Raises:
        InputMissingError: There is no scene.
    """
    scenes = list(_scenes(root / density))
    if not scenes:
        raise InputMissingError(
            f"no scene of SpatialBench in {root / density}",
            hint=f"expected {root}/{density}/<data set>/<scene>/images, with the data sets "
            f"{', '.join(READERS)}",
        )
    progress.begin("read", total=len(scenes), unit="scenes")
    truths: list[Truth] = []
    failed: list[Failure] = []
    for scene in scenes:
        progress.advance()
        name = scene.folder.relative_to(root / density).as_posix()
        try:
            scene.check()
        except ImageError as error:
            failed.append(Failure(str(scene.folder), str(error)))
            continue
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
            continue
        truth, unusable = truth_of(name, name, views, prepare)
        failed += unusable
        if truth is not None:
            surface = _surface(root, name, scene.reader) if density in _WITH_CLOUDS else None
            truths.append(replace(truth, surface=surface))
    return TestData(LAYOUT, tuple(truths), 0, tuple(failed), DataCheck())


def _scenes(root: Path) -> Iterator[BenchScene]:
    for name in READERS:
        for images in sorted((root / name).rglob("images")):
            if images.is_dir():
                yield BenchScene(images.parent, READERS[name])


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


def _surface(root: Path, name: str, reader: Reader) -> TrueSurface | None:
    """The data set's mesh or cloud: in the scene's folder below `pointcloud/`, or one above."""
    if reader.clouds is None:
        return None
    top = root / "pointcloud"
    for folder in (place := top / name, *place.parents):
        if not folder.is_relative_to(top) or folder == top:
            return None
        found = sorted(folder.glob("*.ply"))
        if found:
            rules = reader.clouds
            return TrueSurface(
                points=torch.from_numpy(np.asarray(read_surface_points(found[0]))),
                volume=VolumeRules(rules.tsdf_voxel, rules.tsdf_truncation, rules.tsdf_farthest),
                voxel=rules.voxel,
                threshold=rules.threshold,
                margin=rules.margin,
            )
    return None
