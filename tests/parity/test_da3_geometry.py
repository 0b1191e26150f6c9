"""The geometry of Depth Anything 3 against recorded results of the original."""

import re

import numpy as np
import pytest
import torch
from recorded import drawing, load_arrays, load_json

from distill3r_core.geometry.cameras import invert_rigid, unproject
from distill3r_core.geometry.pose_vectors import join_pose_vector, split_pose_vector
from distill3r_core.geometry.registration import rotation_angle
from distill3r_core.geometry.similarity import scale_of
from distill3r_core.teachers.da3.given_cameras import normalize_cameras, predicted_from_given
from distill3r_core.teachers.da3.ray_cameras import (
    camera_from_rays,
    fit_homography,
    plane_coordinates,
)

EXACT, RAYS = 1e-5, 1e-4  # largest difference over largest value; the original's SVD is in float32


@pytest.fixture(scope="module")
def facts(golden_dir):
    return load_json(golden_dir, "da3_geometry")


@pytest.fixture(scope="module")
def arrays(golden_dir):
    return {
        name: torch.from_numpy(value)
        for name, value in load_arrays(golden_dir, "da3_geometry").items()
    }


def close(found, wanted, bar=EXACT) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= bar * float(wanted.abs().max())


def whole(pose) -> torch.Tensor:
    """`[R | t]` with its fourth row."""
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=pose.dtype).expand(*pose.shape[:-2], 1, 4)
    return torch.cat([pose, last], dim=-2)


def test_da3_geometry_pose_vectors(facts, arrays):
    size = (facts["H"], facts["W"])
    world_from_cam, intrinsics = split_pose_vector(arrays["decode/pose_enc"], size)
    close(invert_rigid(whole(world_from_cam))[..., :3, :], arrays["decode/extrinsics"])
    close(intrinsics, arrays["decode/intrinsics"])
    poses = torch.linalg.inv(arrays["encode/extrinsics"].double())
    found = join_pose_vector(poses, arrays["encode/intrinsics"].double(), size)
    close(found, arrays["encode/pose_enc"].double())


def test_da3_geometry_given_cameras(arrays):
    numbers = {
        re.fullmatch(r"normalize/(\d+)/in", name)[1]
        for name in arrays
        if "/in" in name and "normalize" in name
    }
    assert numbers
    for number in numbers:
        scenes, normalized = (arrays[f"normalize/{number}/{end}"] for end in ("in", "out"))
        for given, wanted in zip(scenes, normalized, strict=True):
            close(normalize_cameras(given), wanted)


@pytest.mark.parametrize("case", ["exact", "noisy"])
def test_da3_geometry_cameras_from_rays(facts, arrays, case):
    size = (facts["H"], facts["W"])
    views = arrays[f"rays/{case}/ray"].shape[1]
    confidence = arrays["rays/ray_conf" if case == "exact" else "rays/noisy/ray_conf"]
    for view in range(views):
        pose, intrinsics = camera_from_rays(
            arrays[f"rays/{case}/ray"][0, view], confidence[0, view], size
        )
        true = whole(arrays["rays/true_c2w"][view].double())
        focal = arrays["rays/true_focal"][view].double()
        found = torch.stack([intrinsics[0, 0], intrinsics[1, 1]])
        if case == "exact":
            extrinsics = invert_rigid(whole(pose))[:3]
            close(extrinsics, arrays["rays/exact/extrinsics"][0, view].double(), RAYS)
            close(intrinsics, arrays["rays/exact/intrinsics"][0, view].double(), RAYS)
        measured = facts["measured"]["noisy"]
        bound = 3 * (
            measured["focal_max_relative_error_of_mean"] + measured["focal_max_relative_spread"]
        )
        assert float(((found - focal) / focal).abs().max()) < bound
        assert float(rotation_angle(whole(pose), true)) < (0.01 if case == "exact" else 1.0)
        if case == "noisy":  # by random samples: ours and the mean of the original's runs
            extrinsics = invert_rigid(whole(pose))[:3]
            away = extrinsics - arrays["rays/noisy/extrinsics_mean"][view]
            spread = measured["extrinsics_max_error_of_mean"] + measured["extrinsics_max_spread"]
            assert float(away.abs().max()) < 3 * spread
            wanted = arrays["rays/noisy/intrinsics_mean"][view].double()
            mean = torch.stack([wanted[0, 0], wanted[1, 1]])
            assert float(((found - mean) / mean).abs().max()) < bound
            middle = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
            offset = float((wanted[:2, 2] - middle).abs().max())
            assert offset <= 1.001 * measured["principal_point_max_error_px"]
            close(wanted[2], torch.tensor([0.0, 0.0, 1.0]).double())


def test_da3_geometry_homography_and_plane(facts, arrays):
    rows, columns = facts["ray_grid"]
    plane = plane_coordinates((rows, columns))
    close(plane.float(), arrays["rays/plane"])
    for view in range(arrays["rays/exact/ray"].shape[1]):
        directions = arrays["rays/exact/ray"][0, view, ..., :3].double()
        target = (directions[..., :2] / directions[..., 2:]).reshape(-1, 2)
        weights = arrays["rays/ray_conf"][0, view].reshape(-1).double()
        found = fit_homography(plane.reshape(-1, 2), target, weights)
        wanted = arrays["rays/core/homography"][view].double()
        close(found, wanted / wanted[2, 2], RAYS)
        # With the principal point in the middle both orders of factorization are the same.
        size = (facts["H"], facts["W"])
        pose, intrinsics = camera_from_rays(
            arrays["rays/exact/ray"][0, view], arrays["rays/ray_conf"][0, view], size, robust=False
        )
        close(pose[:, :3], arrays["rays/core/rotation"][view].double(), RAYS)
        halves = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
        inverse = halves / torch.stack([intrinsics[0, 0], intrinsics[1, 1]])
        close(inverse, arrays["rays/core/inverse_focal"][view].double(), RAYS)
        offset = intrinsics[:2, 2] / halves - 1
        assert float((offset - arrays["rays/core/offset"][view]).abs().max()) < RAYS


def test_da3_geometry_a_principal_point_off_the_middle_is_found(facts, arrays):
    """Unlike the original's, whose rotation is off by many degrees there."""
    size = (facts["H"], facts["W"])
    truth = facts["measured"]["offcentre"]
    _, intrinsics = camera_from_rays(
        arrays["rays/offcentre/ray"][0, 0], torch.ones(*facts["ray_grid"]), size
    )
    found = [intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]]
    np.testing.assert_allclose(found, truth["true_intrinsics"], rtol=1e-4)
    published = arrays["rays/offcentre/intrinsics"][0, 0]
    recorded = [published[0, 0], published[1, 1], published[0, 2], published[1, 2]]
    np.testing.assert_allclose(recorded, truth["official_intrinsics"], rtol=1e-4)
    turned = invert_rigid(whole(arrays["rays/offcentre/extrinsics"][0, 0].double()))
    ours = whole(
        camera_from_rays(arrays["rays/offcentre/ray"][0, 0], torch.ones(*facts["ray_grid"]), size)[
            0
        ]
    )
    assert float(rotation_angle(ours, turned)) == pytest.approx(
        truth["rotation_error_degrees"], rel=0.02
    )


@pytest.mark.parametrize(("name", "center"), [("integer_grid", 0.0), ("pixel_centre", 0.5)])
def test_da3_geometry_points(facts, arrays, golden_dir, name, center):
    formula = facts["inputs"]["points depth"]
    sides, seed = re.search(r"'input/geometry/depth', \[([\d, ]+)\], (\d+)\)", formula).groups()
    shape, seed = [int(side) for side in sides.split(",")], int(seed)
    assert shape[1:] == [facts["views"], facts["H"], facts["W"]]
    drawn = drawing(golden_dir)("input/geometry/depth", shape, seed)
    depth = torch.from_numpy(np.exp(0.5 * drawn))
    every = (slice(None), slice(None), slice(None, None, 4), slice(None, None, 4))
    close(depth[every], arrays["points/depth_formula_check"])
    local = unproject(depth, arrays["points/intrinsics"], center=center)
    pose = arrays["points/c2w"][:, :, None]
    world = local @ pose[..., :3].mT + pose[..., None, :, 3]
    close(local[every], arrays[f"points/local_{name}"])
    close(world[every], arrays[f"points/world_{name}"])


@pytest.mark.parametrize("case", ["plain", "ransac"])
def test_da3_geometry_similarity_to_given_cameras(arrays, case):
    given = torch.linalg.inv(arrays[f"align/{case}/given_extrinsics"].double())
    predicted = invert_rigid(whole(arrays[f"align/{case}/predicted_extrinsics"].double()))
    found = predicted_from_given(given[:, :3, 3], predicted[:, :3, 3])
    scale = arrays[f"align/{case}/scale"].double()
    assert float(scale_of(found)) == pytest.approx(float(scale), rel=EXACT)
    close(found[:, :3] / scale, arrays[f"align/{case}/rotation"].double(), RAYS)
    close(found[:, 3], arrays[f"align/{case}/translation"].double(), RAYS)
    moved = given.clone()
    moved[:, :3, :3] = found[:, :3] / scale @ given[:, :3, :3]
    moved[:, :3, 3] = given[:, :3, 3] @ found[:, :3].T + found[:, 3]
    close(invert_rigid(moved), arrays[f"align/{case}/aligned_extrinsics"].double(), RAYS)
