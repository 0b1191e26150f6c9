"""Given intrinsics and one camera for all views: in cameras, depth, poses and points."""

from dataclasses import replace

import numpy as np
import pytest
from exact_scene import exact_views, with_points, world_from_cams

from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions, parse_intrinsics
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.local_views import find_local_cameras
from distill3r_core.reconstruction.reliability.map_checks import check_local_maps, check_views
from distill3r_core.reconstruction.view_maps import ViewMaps

SAME_SIZE = (((480, 640), 500.0), ((480, 640), 620.0), ((480, 640), 540.0))
K = np.array([[520.0, 0, 315], [0, 510.0, 245], [0, 0, 1]])


def test_given_intrinsics_are_every_camera_s_and_the_points_lie_on_their_rays() -> None:
    views, maps = exact_views(cameras=SAME_SIZE)
    solved = solve_cameras(views, maps, cameras=CameraOptions(K)).views
    for view, before in zip(solved, maps, strict=True):
        np.testing.assert_array_equal(view.camera.intrinsics, K)
        assert view.camera.facts["focal_source"] == "given"
        points = view.aligned.local_map.points.astype(np.float64)
        projected = points @ K.T
        pixels = full_size_pixels(view.loaded.fitted.placement)
        np.testing.assert_allclose(projected[..., :2] / projected[..., 2:], pixels, atol=0.01)
        np.testing.assert_allclose(points[..., 2], before.local_map.points[..., 2], rtol=1e-6)


def test_a_student_with_a_wrong_focal_length_is_mended_by_the_true_one() -> None:
    """Local maps as of a camera of 0.8 of the focal length; the true one gives the true poses."""
    cameras = (((480, 640), 500.0),) * 3
    views, maps = exact_views(cameras=cameras)
    bent = [
        ViewMaps(one.global_map, with_points(one.local_map, one.local_map.points * [1.25, 1.25, 1]))
        for one in maps
    ]
    true = np.array([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]])
    estimated = solve_cameras(views, bent).views
    assert estimated[1].camera.intrinsics[0, 0] == pytest.approx(400, rel=1e-3)
    given = solve_cameras(views, bent, cameras=CameraOptions(true)).views
    for view, pose in zip(given, world_from_cams(), strict=True):
        np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=1e-4)


def test_a_shared_camera_has_the_median_of_the_estimates() -> None:
    views, maps = exact_views(cameras=SAME_SIZE)
    solved = solve_cameras(views, maps, cameras=CameraOptions(shared=True)).views
    for view in solved:
        assert view.camera.intrinsics[0, 0] == pytest.approx(540, rel=1e-3)
        assert view.camera.facts["focal_source"] == "points of all views"


def test_points_moved_to_the_rays_of_a_camera_are_not_checked_against_it() -> None:
    """A map that fits no camera does not fit one because its points were moved."""
    views, maps = exact_views(cameras=SAME_SIZE)
    bent = []
    for one in maps:
        points = one.local_map.points.copy()
        points[..., 0] += 0.4 * np.sin(9 * points[..., 1] / points[..., 2]) * points[..., 2]
        bent.append(ViewMaps(one.global_map, with_points(one.local_map, points)))
    plain = check_views(solve_cameras(views, bent).views)
    given = check_views(solve_cameras(views, bent, cameras=CameraOptions(K)).views)
    assert plain.misfit > 0.05 and given.misfit == pytest.approx(plain.misfit)
    alone = [ViewMaps(None, one.local_map) for one in bent]
    moved, _ = find_local_cameras(views, alone, cameras=CameraOptions(K))
    assert check_local_maps(moved).misfit == pytest.approx(plain.misfit)


def test_pixels_outside_masks_take_part_in_no_fit() -> None:
    """What lies outside of the masks may be anything: cameras and checks stay as they are."""
    views, maps = exact_views(cameras=SAME_SIZE)
    mask = np.zeros(maps[0].local_map.confidence.shape, bool)
    mask[6:22, 8:34] = True
    rng, spoilt = np.random.default_rng(0), []
    for one in maps:
        local, world = one.local_map.points.copy(), one.global_map.points.copy()
        for points in (local, world):
            points[~mask] = rng.uniform(1, 5, (int((~mask).sum()), 3))
        spoilt.append(
            ViewMaps(with_points(one.global_map, world), with_points(one.local_map, local))
        )
    masked = [replace(view, mask=mask) for view in views]
    solved = solve_cameras(masked, spoilt).views
    for view, pose, ((_, _), focal) in zip(solved, world_from_cams(), SAME_SIZE, strict=True):
        np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=1e-3)
        assert view.camera.intrinsics[0, 0] == pytest.approx(focal, rel=1e-3)
        assert view.camera.facts["misfit"] < 1e-3
    checks, all_pixels = check_views(solved), check_views(solve_cameras(views, spoilt).views)
    assert checks.misfit < 1e-3 and checks.spread < 1e-3 < all_pixels.spread
    alone, _ = find_local_cameras(masked, [ViewMaps(None, one.local_map) for one in spoilt])
    assert check_local_maps(alone).misfit < 1e-3


def test_the_options_hold_for_the_local_head_alone() -> None:
    views, maps = exact_views(cameras=SAME_SIZE)
    alone = [ViewMaps(None, one.local_map) for one in maps]
    given, _ = find_local_cameras(views, alone, cameras=CameraOptions(K))
    assert all((view.camera.intrinsics == K).all() for view in given)
    shared, _ = find_local_cameras(views, alone, cameras=CameraOptions(shared=True))
    assert len({view.camera.intrinsics[0, 0] for view in shared}) == 1


def test_intrinsics_of_one_size_do_not_fit_images_of_several() -> None:
    views, _ = exact_views()
    with pytest.raises(RequestError, match="and these have 2"):
        CameraOptions(K).check(views)
    with pytest.raises(RequestError, match="is not inside the images"):
        CameraOptions(4 * K + np.diag([0, 0, -3])).check(views[:1])
    CameraOptions(shared=True).check(views)


def test_intrinsics_are_read_from_numbers_and_files(tmp_path) -> None:
    np.testing.assert_array_equal(parse_intrinsics("520,510,315,245"), K)
    for text in ("520 510 315 245\n", "520 0 315\n0 510 245\n0 0 1\n"):
        (tmp_path / "k.txt").write_text(text)
        np.testing.assert_array_equal(parse_intrinsics(str(tmp_path / "k.txt")), K)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nothing.txt", InputMissingError),
        ("520,510,315", InputMissingError),
        ("-520,510,315,245", RequestError),
        ("520,nan,315,245", InputMissingError),
    ],
)
def test_intrinsics_that_are_none_are_refused(text, error) -> None:
    with pytest.raises(error, match="--intrinsics"):
        parse_intrinsics(text)
