"""COLMAP's poses as a baseline: maps are placed where COLMAP's cameras are, each at its scale."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from posed_rooms import SIZE, room_depth

from distill3r_core.data.frame_processing import Processing, process
from distill3r_core.data.frame_reader import SourceFrame
from distill3r_core.evaluation.baselines import BASELINES, colmap_poses
from distill3r_core.evaluation.data_frames import _view_of
from distill3r_core.evaluation.predictions import maps_of
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.structure_from_motion import SolvedImage
from distill3r_core.scenes.paths import pinhole
from distill3r_core.types import ImagePlacement, PreparedView

UNIT = 1.7  # meters in one unit of the solver
VIEWS = 4


@pytest.fixture
def truth():
    depth, poses = room_depth(0, VIEWS, 40.0)
    k = pinhole(SIZE)
    image = np.zeros((*SIZE, 3), np.uint8)
    source = SourceFrame(image, intrinsics=k.double().numpy(), is_nominal=True)
    view = _view_of(process(source, Processing()))
    whole = ImagePlacement((0.0, 0.0, float(SIZE[1]), float(SIZE[0])), SIZE)
    intrinsics = k.float().expand(VIEWS, 3, 3)
    return Truth(
        name="s",
        world="s",
        view_names=tuple("abcd"),
        views=(PreparedView(torch.zeros(3, *SIZE), whole),) * VIEWS,
        points=unproject(depth.float(), intrinsics),
        mask=torch.ones(VIEWS, *SIZE, dtype=torch.bool),
        intrinsics=intrinsics,
        poses=poses.double(),
        unit="m",
        contents=(),
        sources=(view,) * VIEWS,
    )


@pytest.fixture
def cameras(monkeypatch, truth):
    """The cameras that a solver was given which knows the truth, in a unit of its own."""
    given = []

    def solve_images(views):
        given.extend(camera for _, camera in views)
        rows, columns = np.mgrid[5:60:7, 5:90:9].reshape(2, -1)
        found = {}
        for index in range(VIEWS - 1):  # the last one is lost
            pose = truth.poses[index].numpy().copy()
            pose[:3, 3] /= UNIT
            seen = truth.points[index, ..., 2].double().numpy()[rows, columns] / UNIT
            pixels = np.stack([columns + 0.5, rows + 0.5], 1)
            k = truth.intrinsics[index].double().numpy()
            found[index] = SolvedImage(pose, pixels, seen, k, SIZE)
        return found

    module = sys.modules[colmap_poses.__module__]
    monkeypatch.setattr(module, "solve_images", solve_images)
    monkeypatch.setattr(module, "pnp_available", lambda: True)
    return given


def test_maps_are_placed_by_the_solvers_cameras_whatever_their_own_scale(truth, cameras):
    own = torch.tensor([1.0, 2.0, 0.5, 1.0])[:, None, None, None]
    found = BASELINES["colmap_poses"].poses(truth, maps_of(own * truth.points, truth))
    assert found[-1].isnan().all()  # not placed
    for index in range(VIEWS - 1):
        points = own[index] * truth.points[index]
        placed = points.double() @ found[index, :, :3].mT + found[index, :, 3]
        true = truth.points[index].double() @ truth.poses[index, :3, :3].mT
        torch.testing.assert_close(
            UNIT * placed, true + truth.poses[index, :3, 3], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("is_nominal", [True, False])
def test_only_a_k_that_is_one_value_for_a_kind_is_estimated(truth, cameras, is_nominal):
    sources = tuple(replace(view, is_nominal=is_nominal) for view in truth.sources)
    colmap_poses(replace(truth, sources=sources), maps_of(truth.points, truth))
    assert [camera.is_fixed for camera in cameras] == [not is_nominal] * VIEWS
    assert {camera.model for camera in cameras} == {"SIMPLE_RADIAL" if is_nominal else "PINHOLE"}


def test_the_kind_of_k_is_known_from_the_frame_to_the_truth(truth):
    assert all(view.is_nominal for view in truth.sources)
