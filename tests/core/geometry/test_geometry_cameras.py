import pytest
import torch

from distill3r_core.geometry.cameras import invert_rigid, place_intrinsics, project, rays, unproject
from distill3r_core.types import ImagePlacement

K = torch.tensor([[50.0, 0.0, 21.0], [0.0, 60.0, 14.0], [0.0, 0.0, 1.0]])


def test_a_ray_through_the_principal_point_looks_ahead():
    centered = torch.tensor([[50.0, 0.0, 10.5], [0.0, 50.0, 3.5], [0.0, 0.0, 1.0]])
    assert rays(centered, (28, 42))[3, 10].tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    whole = torch.tensor([[50.0, 0.0, 10.0], [0.0, 50.0, 3.0], [0.0, 0.0, 1.0]])
    assert rays(whole, (28, 42), center=0.0)[3, 10].tolist() == pytest.approx([0, 0, 1], abs=1e-6)


def test_projecting_what_was_unprojected_gives_the_pixel_centers_back():
    points = unproject(torch.rand(2, 28, 42) + 0.5, K.expand(2, 3, 3))
    pixels = project(points, K.expand(2, 3, 3))
    torch.testing.assert_close(pixels[1, 5, 7], torch.tensor([7.5, 5.5]), rtol=0, atol=1e-4)
    torch.testing.assert_close(pixels[0, 27, 41], torch.tensor([41.5, 27.5]), rtol=0, atol=1e-4)


def test_unprojected_depth_is_z_and_not_distance():
    depth = torch.rand(28, 42) + 0.5
    torch.testing.assert_close(unproject(depth, K)[..., 2], depth)


def test_a_crop_and_a_resize_move_the_seen_pixel_with_the_picture():
    placement = ImagePlacement(box=(4.0, 2.0, 40.0, 26.0), size=(48, 18))
    points = unproject(torch.rand(28, 42) + 0.5, K)
    before = project(points, K)
    after = project(points, place_intrinsics(K, placement))
    torch.testing.assert_close(after[..., 0], (before[..., 0] - 4) * 18 / 36, rtol=0, atol=1e-3)
    torch.testing.assert_close(after[..., 1], (before[..., 1] - 2) * 48 / 24, rtol=0, atol=1e-3)


def test_a_transposed_picture_sees_every_point_at_the_swapped_pixel():
    points = unproject(torch.rand(28, 42) + 0.5, K)
    placement = ImagePlacement(box=(0.0, 0.0, 42.0, 28.0), size=(42, 28), transposed=True)
    after = project(points, place_intrinsics(K, placement))
    torch.testing.assert_close(after, project(points, K).flip(-1), rtol=0, atol=1e-3)


def test_a_pose_and_its_inverse_cancel():
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = turn, torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(invert_rigid(pose) @ pose, torch.eye(4, dtype=torch.float64))
