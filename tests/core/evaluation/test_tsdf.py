"""Fusion of depth maps: a plane, what no camera saw, and an empty volume."""

import numpy as np
import pytest

from distill3r_core.evaluation.clouds.tsdf import TsdfVolume, VolumeRules, sample_surface

K = np.array([[40.0, 0, 20], [0, 40.0, 15], [0, 0, 1]])


def _fused(*depths: float, turn: bool = False) -> np.ndarray:
    volume = TsdfVolume(VolumeRules(voxel=0.05, truncation=0.2, farthest=5.0))
    pose = np.eye(4)
    if turn:  # looks along -x from (2, 0, 0)
        pose[:3, :3] = [[0, 0, -1], [0, 1, 0], [1, 0, 0]]
        pose[0, 3] = 2.0
    for depth in depths:
        volume.integrate(np.full((30, 40), depth), K, pose)
    return volume.triangles()


def test_a_plane_is_found_where_it_is_seen_and_as_large():
    triangles = _fused(2.0)
    points = sample_surface(triangles, 5000)
    assert np.abs(points[:, 2] - 2.0).max() < 1e-3
    sides = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = np.linalg.norm(np.cross(*sides), axis=1).sum() / 2
    assert area == pytest.approx(2.0 * 1.5, rel=0.15)  # 40x30 pixels at focal 40, depth 2
    turned = sample_surface(_fused(1.0, turn=True), 1000)
    assert np.abs(turned[:, 0] - 1.0).max() < 1e-3


def test_two_views_of_a_plane_are_averaged():
    points = sample_surface(_fused(1.98, 2.02), 1000)
    assert np.abs(points[:, 2] - 2.0).max() < 2e-3


def test_depth_that_is_unknown_or_too_far_leaves_nothing():
    for depth in (0.0, np.nan, np.inf, -1.0, 6.0):
        assert not len(_fused(depth))
    assert not len(sample_surface(np.zeros((0, 3, 3)), 10))
