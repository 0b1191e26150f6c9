"""Checks of maps that need no ground truth."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from distill3r_core.geometry.cameras import unproject
from distill3r_core.reconstruction.cameras.camera_poses import align_local_map
from distill3r_core.reconstruction.reconstruction import AlignedMap
from distill3r_core.reconstruction.reliability.map_checks import check_maps, fit_pinhole
from distill3r_core.scenes import arc, build_scene, pinhole, render_view
from distill3r_core.types import PointMap

SIZE = (42, 56)


@pytest.fixture(scope="module")
def room():
    """Aligned maps of a rendered room, and their exact global maps."""
    scene, intrinsics = build_scene(7), pinhole(SIZE)
    aligned, global_maps = [], []
    for index, pose in enumerate(arc(scene, 12, seed=7)[:4]):
        _, depth = render_view(scene, pose, intrinsics, SIZE)
        local = unproject(depth.double(), intrinsics.double()).numpy() / (1 + index)
        world = (1 + index) * local @ pose[:3, :3].double().numpy().T + pose[:3, 3].numpy()
        confidence = np.linspace(1, 2, local[..., 0].size, dtype=np.float32).reshape(SIZE)
        local_map = PointMap(local.astype(np.float32), confidence)
        global_maps.append(PointMap(world.astype(np.float32), confidence))
        aligned.append(align_local_map(global_maps[-1], local_map))
    return aligned, global_maps


def test_exact_maps_pass_every_check(room):
    checks = check_maps(*room)
    assert checks.misfit < 1e-4 and checks.spread < 1e-4
    assert checks.agreement > 0.8 and checks.overlapping > 0.5


def test_the_unit_of_a_scene_changes_no_check(room):
    aligned, global_maps = room
    scaled = [
        dataclasses.replace(view, world_from_local=7 * view.world_from_local) for view in aligned
    ]
    larger = [PointMap(7 * one.points, one.confidence) for one in global_maps]
    assert vars(check_maps(scaled, larger)) == pytest.approx(vars(check_maps(*room)), abs=1e-4)


def test_turned_views_agree_less_the_more_they_are_turned(room):
    aligned, global_maps = room
    found = []
    for degrees in (0, 5, 15):
        turn = Rotation.from_euler("y", degrees, degrees=True).as_matrix()
        turned = [
            AlignedMap(view.local_map, np.hstack([view.world_from_local[:, :3] @ turn, shift]))
            if index % 2
            else view
            for index, view in enumerate(aligned)
            for shift in [view.world_from_local[:, 3:]]
        ]
        found.append(check_maps(turned, global_maps).agreement)
    assert found[0] > found[1] > found[2]


def test_a_single_view_has_nothing_to_agree_with(room):
    aligned, global_maps = room
    checks = check_maps(aligned[:1], global_maps[:1])
    assert checks.agreement is None and checks.overlapping is None


def test_the_pinhole_of_a_squashed_map_has_two_focal_lengths():
    K = torch.tensor([[50.0, 0, 30], [0, 80.0, 18], [0, 0, 1]])
    depth = 2 + torch.rand(SIZE, generator=torch.Generator().manual_seed(0))
    points = unproject(depth, K).numpy()
    found, misfit = fit_pinhole(PointMap(points, np.ones(SIZE, np.float32)))
    np.testing.assert_allclose(found, K.numpy(), rtol=1e-3)
    assert misfit < 1e-4


@pytest.mark.parametrize("kind", ["constant", "noise", "behind", "nothing"])
def test_maps_without_a_camera_have_a_large_misfit(kind):
    generator = np.random.default_rng(0)
    points = {
        "constant": np.ones((*SIZE, 3)),
        "noise": generator.normal([0, 0, 5], size=(*SIZE, 3)),
        "behind": -np.ones((*SIZE, 3)),
        "nothing": np.full((*SIZE, 3), np.nan),
    }[kind]
    _, misfit = fit_pinhole(PointMap(points.astype(np.float32), np.ones(SIZE, np.float32)))
    assert misfit > 0.15
