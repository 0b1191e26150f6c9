"""Depth of baselines: by hand and by law."""

import math

import pytest
import torch

from distill3r_core.evaluation.baselines.baseline_depth import (
    constant_depth,
    fill_holes,
    frame_distances,
    mean_depth,
    nearest_frames,
    same_depth,
)


def _pose(x: float = 0.0, degrees: float = 0.0) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    pose[0, 3] = x
    return pose


def test_constant_depth_is_a_plane_through_the_pixels_rays():
    k = torch.tensor([[10.0, 0, 2], [0, 20, 1], [0, 0, 1]])[None]
    points = constant_depth(k, (2, 4))
    assert points.shape == (1, 2, 4, 3)
    assert (points[..., 2] == 1).all()
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([-0.15, -0.025, 1.0]))


def test_the_mean_map_averages_what_was_seen():
    depth = torch.tensor([[[1.0, 5.0, 9.0]], [[3.0, 7.0, 9.0]]])
    mask = torch.tensor([[[True, True, False]], [[True, False, False]]])
    found = mean_depth(depth, mask)
    torch.testing.assert_close(found, torch.tensor([[2.0, 5.0, 3.0]]))  # 3 = (1 + 3 + 5) / 3


def test_the_mean_map_ignores_what_stands_outside_the_mask():
    depth = torch.tensor([[[1.0, math.nan]], [[3.0, 4.0]]])
    mask = torch.tensor([[[True, False]], [[True, True]]])
    torch.testing.assert_close(mean_depth(depth, mask), torch.tensor([[2.0, 4.0]]))


def test_holes_take_the_mean():
    depth, mean = torch.tensor([[1.0, 2.0]]), torch.tensor([[8.0, 9.0]])
    assert fill_holes(depth, torch.tensor([[True, False]]), mean).tolist() == [[1.0, 9.0]]


def test_one_map_is_seen_along_each_cameras_rays():
    k = torch.tensor([[10.0, 0, 1], [0, 10, 1], [0, 0, 1]])
    points = same_depth(torch.full((2, 2), 3.0), torch.stack([k, k * torch.tensor([2.0, 2, 1])]))
    assert (points[..., 2] == 3).all()
    assert not torch.equal(points[0], points[1])


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        (_pose(), _pose(), 0.0),
        (_pose(x=0.25), _pose(), 1.0),
        (_pose(degrees=15), _pose(), 1.0),
        (_pose(x=-0.5, degrees=-30), _pose(), 4.0),
        (_pose(degrees=180), _pose(), 12.0),
    ],
)
def test_a_quarter_meter_is_as_far_as_fifteen_degrees(first, second, distance):
    found = frame_distances(first[None], second[None])
    assert float(found) == pytest.approx(distance, abs=1e-2)


def test_the_nearest_frame_is_the_one_that_looks_alike():
    training = torch.stack([_pose(x=0.2, degrees=90), _pose(x=1.0), _pose(x=0.4)])
    assert nearest_frames(_pose()[None], training).tolist() == [2]


def test_one_world_moved_leaves_the_distances_alone():
    cameras = torch.stack([_pose(), _pose(x=0.3, degrees=20)])
    training = torch.stack([_pose(x=0.1), _pose(degrees=-40)])
    moved = _pose(x=3.0, degrees=77)
    torch.testing.assert_close(
        frame_distances(moved @ cameras, moved @ training),
        frame_distances(cameras, training),
        atol=1e-2,
        rtol=1e-3,
    )
