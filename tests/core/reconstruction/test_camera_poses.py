"""Cameras from point maps: the closed form finds what is true, and PnP agrees with it."""

import dataclasses
import math

import numpy as np
import pytest
from exact_scene import CAMERAS, SCALES, exact_views, with_points, world_from_cams

from distill3r_core.errors import ExtraMissingError, InputMissingError, RequestError
from distill3r_core.geometry import pnp
from distill3r_core.io.images.fit import FittedImage, ImageFit
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.cameras.known_positions import (
    apply_known,
    check_known,
    read_known,
)
from distill3r_core.reconstruction.point_cloud import Cleaning, clean_cloud
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.reconstruction.view_maps import ViewMaps
from distill3r_core.types import ImagePlacement, PointMap

FITS = {
    "squash": ImageFit(size=(28, 42)),
    "crop": ImageFit(size=(28, 70), mode="crop"),
    "resized": ImageFit(size=(56, 84), resized=(28, 42)),
    "teacher": ImageFit(size=(28, 42), teacher=TeacherFit(long_edge=128, multiple=16)),
    "thinned": ImageFit(size=(112, 154)),  # large enough that not every pixel votes
}


@pytest.mark.parametrize("name", FITS)
def test_exact_maps_give_back_the_cameras_they_were_made_with(name):
    views, maps = exact_views(FITS[name])
    solved = solve_cameras(views, maps)
    assert not solved.failed
    for view, pose, (size, focal), scale in zip(
        solved.views, world_from_cams(), CAMERAS, SCALES, strict=True
    ):
        np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=1e-5)
        np.testing.assert_allclose(view.camera.intrinsics[0, 0], focal, rtol=1e-4)
        np.testing.assert_allclose(view.camera.intrinsics[:2, 2], [size[1] / 2, size[0] / 2])
        assert view.camera.facts["focal_source"] == "points"
        assert view.camera.facts["misfit"] < 1e-5
        np.testing.assert_allclose(
            np.cbrt(np.linalg.det(view.aligned.world_from_local[:, :3])),
            scale,
            rtol=1e-4,
            atol=1e-4,
        )
        np.testing.assert_allclose(view.aligned.world_map.points, view.global_map.points, atol=1e-4)


def test_the_misfit_is_how_far_pixels_lie_from_where_the_camera_sees_their_points():
    views, maps = exact_views()
    local = maps[0].local_map
    bent = dataclasses.replace(maps[0], local_map=with_points(local, local.points * [1, 2, 1]))
    camera = solve_cameras(views[:1], [bent]).views[0].camera
    (rows, columns), focal = camera.size, camera.intrinsics[0, 0]
    off = []
    for row in range(28):
        for column in range(42):
            x, y, z = bent.local_map.points[row, column].astype(np.float64)
            seen = focal * x / z + columns / 2, focal * y / z + rows / 2
            lies = (column + 0.5) * columns / 42, (row + 0.5) * rows / 28
            off.append(math.dist(seen, lies))
    assert camera.facts["misfit"] == pytest.approx(np.median(off) / 640, rel=0.1)  # most vote
    assert camera.facts["misfit"] > 0.05


def test_the_world_is_the_first_camera_even_where_the_global_map_says_otherwise():
    views, maps = exact_views()
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = [
        ViewMaps(
            with_points(part.global_map, part.global_map.points @ turn.T + [1, 2, 3]),
            part.local_map,
        )
        for part in maps
    ]
    solved = solve_cameras(views, moved).views
    np.testing.assert_array_equal(solved[0].camera.world_from_cam, np.eye(4))
    for view, pose, before in zip(solved, world_from_cams(), maps, strict=True):
        np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=1e-4)
        np.testing.assert_allclose(view.global_map.points, before.global_map.points, atol=1e-4)


def test_a_view_that_was_transposed_for_the_network_is_turned_back():
    views, maps = exact_views()
    fitted = views[1].fitted
    rows, columns = fitted.placement.size
    transposed = ImagePlacement(box=fitted.placement.box, size=(columns, rows), transposed=True)
    views[1] = dataclasses.replace(
        views[1], fitted=FittedImage(fitted.image.transpose(1, 0, 2), transposed)
    )
    maps[1] = _transposed(maps[1])
    view = solve_cameras(views, maps).views[1]
    np.testing.assert_allclose(view.camera.world_from_cam, world_from_cams()[1], atol=1e-5)
    np.testing.assert_allclose(view.camera.intrinsics[0, 0], CAMERAS[1][1], rtol=1e-4)
    np.testing.assert_array_equal(view.loaded.fitted.image, fitted.image)
    assert view.loaded.fitted.placement == fitted.placement


def test_a_third_of_wild_points_hardly_moves_a_pose():
    views, maps = exact_views()
    generator = np.random.default_rng(0)
    wild = generator.uniform(size=maps[1].global_map.confidence.shape) < 0.33
    points = maps[1].global_map.points.copy()
    points[wild] += generator.normal(scale=3.0, size=(int(wild.sum()), 3)).astype(np.float32)
    maps[1] = ViewMaps(with_points(maps[1].global_map, points), maps[1].local_map)
    camera = solve_cameras(views, maps).views[1].camera
    np.testing.assert_allclose(camera.world_from_cam, world_from_cams()[1], atol=0.01)


def test_pnp_and_the_closed_form_agree_on_exact_maps():
    pytest.importorskip("pycolmap")
    views, maps = exact_views()
    for poses in ("similarity", "pnp"):
        for view, pose in zip(
            solve_cameras(views, maps, poses=poses, compare=True).views,
            world_from_cams(),
            strict=True,
        ):
            degrees, distance = view.agreement
            assert degrees < 0.02 and distance < 1e-3
            np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=2e-3)


def test_poses_by_pnp_without_pycolmap_name_the_extra(monkeypatch):
    monkeypatch.setattr(pnp, "pnp_available", lambda: False)
    views, maps = exact_views()
    with pytest.raises(ExtraMissingError, match="colmap") as raised:
        solve_cameras(views, maps, poses="pnp")
    assert "distill3r[colmap]" in raised.value.hint
    assert all(view.agreement is None for view in solve_cameras(views, maps, compare=True).views)


def test_a_view_without_finite_points_is_left_out_and_named():
    views, maps = exact_views()
    nothing = np.full_like(maps[1].global_map.points, np.nan)
    maps[1] = ViewMaps(
        with_points(maps[1].global_map, nothing), with_points(maps[1].local_map, nothing)
    )
    solved = solve_cameras(views, maps)
    assert [view.camera.name for view in solved.views] == ["view_000", "view_002"]
    assert [failure.item for failure in solved.failed] == ["view_001"]


def test_a_mirrored_map_has_no_focal_length_and_says_where_its_guess_is_from():
    views, maps = exact_views()
    mirror = np.array([-1.0, -1.0, 1.0], np.float32)
    for index in (0, 2):
        local = maps[index].local_map
        maps[index] = ViewMaps(maps[index].global_map, with_points(local, local.points * mirror))
    views[0] = dataclasses.replace(views[0], exif_focal=777.0)
    cameras = [view.camera for view in solve_cameras(views, maps).views]
    assert cameras[0].intrinsics[0, 0] == 777.0
    assert cameras[0].facts["focal_source"].startswith("exif")
    assert cameras[1].facts["focal_source"] == "points"
    assert cameras[2].facts["focal_source"].startswith("guessed")


def _scene() -> Reconstruction:
    return Reconstruction(solve_cameras(*exact_views()).views)


def test_a_known_distance_makes_the_whole_scene_metric():
    scene = _scene()
    before = np.linalg.norm(world_from_cams()[1][:3, 3])
    scaled, notes = apply_known(scene, read_known("view_000:view_001=2.0"))
    factor = 2.0 / before
    for old, new in zip(scene.views, scaled.views, strict=True):
        np.testing.assert_allclose(
            new.camera.world_from_cam[:3, 3],
            factor * old.camera.world_from_cam[:3, 3],
            rtol=1e-4,
            atol=1e-4,
        )
        np.testing.assert_allclose(
            new.global_map.points, factor * old.global_map.points, rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(
            new.aligned.world_map.points, factor * old.aligned.world_map.points, atol=1e-4
        )
        np.testing.assert_allclose(new.depth, factor * old.depth, rtol=1e-4)
    assert scaled.scale.unit == "m" and "1 unit = " in notes[0]


def test_camera_positions_in_any_frame_give_the_scale_and_a_residual(tmp_path):
    turn = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    lines = ["# measured"]
    for index, pose in enumerate(world_from_cams()):
        x, y, z = 4.0 * turn @ pose[:3, 3] + 10
        lines.append(f"view_{index:03d}, {x}, {y}, {z}" if index else f"view_000 {x} {y} {z}")
    file = tmp_path / "positions.csv"
    file.write_text("\n".join([*lines, "elsewhere 0 0 0"]))
    scaled, _ = apply_known(_scene(), read_known(str(file)))
    np.testing.assert_allclose(
        scaled.views[1].camera.world_from_cam[:3, 3], 4 * world_from_cams()[1][:3, 3], atol=1e-3
    )
    assert scaled.scale.residual < 1e-3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("view_000:view_001", "cannot use"),
        ("view_000:view_001=-1", "cannot use"),
        ("view_000:view_001=nan", "cannot use"),
        ("=2", "cannot use"),
        ("view_000:view_009=1", "knows 1 of 3 views; it takes two; no view is called view_009"),
        ("view_000:view_000=1", "knows 1 of 3"),
    ],
)
def test_a_scale_that_cannot_be_used_is_refused(text, says):
    with pytest.raises(RequestError, match=says):
        apply_known(_scene(), read_known(text))


def test_a_file_of_positions_that_is_not_there_is_missing():
    with pytest.raises(InputMissingError, match=r"no file nothing\.txt"):
        read_known("nothing.txt")


def test_one_distance_has_no_residual_to_speak_of():
    scene, notes = apply_known(_scene(), read_known("view_000:view_001=2.0"))
    assert "unverified" in notes[0]
    assert "unverified" in scene.scale.source
    assert scene.scale.residual is None


@pytest.mark.parametrize("share", [0.004, 0.3])
def test_views_closer_than_the_noise_of_the_reconstruction_give_no_scale(share):
    """At 0.3 of the depth the maps are good enough, unless they differ by more than that."""
    scene = _scene()
    depth = np.median(np.concatenate([view.depth.ravel() for view in scene.views[:2]]))
    near = scene.views[1].camera.at(_at((share * depth, 0, 0)))
    views = [scene.views[0], dataclasses.replace(scene.views[1], camera=near)]
    if share > 0.1:
        apply_known(
            dataclasses.replace(scene, views=tuple(views)), read_known("view_000:view_001=2")
        )
        views = [
            dataclasses.replace(
                view, global_map=with_points(view.global_map, view.global_map.points + depth)
            )
            for view in views
        ]
    with pytest.raises(RequestError, match="less than the noise of the reconstruction"):
        apply_known(
            dataclasses.replace(scene, views=tuple(views)), read_known("view_000:view_001=2")
        )


def test_positions_that_do_not_fit_the_poses_are_warned_of(tmp_path):
    file = tmp_path / "positions.txt"
    names, poses = [f"view_{index:03d}" for index in range(3)], world_from_cams()

    def notes_of(names):
        centers = [" ".join(map(str, pose[:3, 3])) for pose in poses]
        file.write_text("\n".join(f"{n} {at}" for n, at in zip(names, centers, strict=True)))
        return apply_known(_scene(), read_known(str(file)))[1]

    assert len(notes_of(names)) == 1
    assert "warning: the residual is" in notes_of([names[1], names[0], names[2]])[-1]


def test_positions_of_no_view_are_named(tmp_path):
    file = tmp_path / "positions.txt"
    centers = [" ".join(map(str, pose[:3, 3])) for pose in world_from_cams()]
    lines = [f"view_{index:03d} {at}" for index, at in enumerate(centers)]
    for known in (lines, lines[:2]):
        file.write_text("\n".join([*known, "elsewhere 1 2 3"]))
        notes = apply_known(_scene(), read_known(str(file)))[1]
        assert notes[-1] == "--scale-from: no view is called elsewhere"


def test_positions_know_pictures_by_their_files_names(tmp_path):
    views = [
        dataclasses.replace(view, name=name, path=tmp_path / file)
        for view, (name, file) in zip(
            exact_views()[0],
            [("a_b", "a b.png"), ("x,y", "x,y.png"), ("c", "c.png")],
            strict=True,
        )
    ]
    file = tmp_path / "positions.csv"
    file.write_text("\ufeffa b 1 2 3\nx,y.png , 4 5,6\n c.png,7,8,9\n", encoding="utf-8")
    known = read_known(str(file))
    assert {name: list(at) for name, at in known.centers.items()} == {
        "a b": [1, 2, 3], "x,y.png": [4, 5, 6], "c.png": [7, 8, 9],
    }  # fmt: skip
    check_known(known, views)
    check_known(read_known("a b.png:x,y=1"), views)


def test_a_name_that_fits_several_views_is_refused_with_theirs(tmp_path):
    views = [
        dataclasses.replace(view, name=name, path=tmp_path / folder / "000.png")
        for view, name, folder in zip(
            exact_views()[0], ["000", "000-2", "000-3"], "abc", strict=True
        )
    ]
    with pytest.raises(RequestError, match=r"3 views come from a file called 000\.png") as raised:
        check_known(read_known("000.png:000-2=1"), views)
    assert "000, 000-2, 000-3" in raised.value.hint
    check_known(read_known("000:000-2=1"), views)  # names of views are one view's each


def test_a_damaged_file_of_positions_is_refused_with_its_line(tmp_path):
    file = tmp_path / "positions.txt"
    file.write_text("view_000 0 0 0\nview_001 1 x 0\n")
    with pytest.raises(RequestError, match="line 2"):
        read_known(str(file))
    file.write_text("view_000 0 0 0\nview_001 1 1 0\nview_000 2 2 2\n")
    with pytest.raises(RequestError, match="line 3: view_000 is there twice"):
        read_known(str(file))


def test_noise_of_the_global_maps_is_left_out_of_the_aligned_cloud():
    views, maps = exact_views()
    generator = np.random.default_rng(0)
    noisy = [
        ViewMaps(
            with_points(
                part.global_map,
                part.global_map.points
                + generator.normal(scale=0.05, size=part.global_map.points.shape),
            ),
            part.local_map,
        )
        for part in maps
    ]
    solved = solve_cameras(views, noisy).views
    truth = np.concatenate([part.global_map.points.reshape(-1, 3) for part in maps])
    clouds = {
        name: clean_cloud(Reconstruction(solved, cloud_from=name), Cleaning(conf=0.0)).cloud.points
        for name in ("global", "aligned")
    }
    error = {name: np.linalg.norm(points - truth, axis=1).mean() for name, points in clouds.items()}
    assert error["aligned"] < 0.2 * error["global"]


def test_the_cloud_is_of_carried_local_points_with_their_own_confidence_unless_asked_otherwise():
    views, maps = exact_views()
    maps = [
        ViewMaps(
            one.global_map,
            PointMap(one.local_map.points, one.global_map.confidence[::-1] + 7.0),
        )
        for one in maps
    ]
    scene = Reconstruction(solve_cameras(views, maps).views)
    everything = Cleaning(conf=0.0)
    local = clean_cloud(scene, everything)
    expected = np.concatenate([one.local_map.confidence.ravel() for one in maps])
    np.testing.assert_array_equal(local.confidence, expected)
    carried = np.concatenate([v.aligned.world_map.points.reshape(-1, 3) for v in scene.views])
    np.testing.assert_array_equal(local.cloud.points, carried)
    other = clean_cloud(dataclasses.replace(scene, cloud_from="global"), everything)
    expected = np.concatenate([one.global_map.confidence.ravel() for one in maps])
    np.testing.assert_array_equal(other.confidence, expected)
    # The percentage is of those that make the cloud.
    least = np.argsort(local.confidence, kind="stable")[: len(local.confidence) // 2]
    kept = clean_cloud(scene, Cleaning(conf=50.0))
    assert kept.confidence.min() >= local.confidence[least].max()


def test_the_residual_of_known_positions_is_the_one_worked_by_hand(tmp_path):
    scene = _scene()
    # Ours are 3, 4 and 5 apart, theirs 6, 8 and 14: the factor is 120 / 50, which leaves
    # 1.2, 1.6 and -2.
    views = [
        dataclasses.replace(view, camera=view.camera.at(_at(place)))
        for view, place in zip(scene.views, [(0, 0, 0), (3, 0, 0), (0, 4, 0)], strict=True)
    ]
    file = tmp_path / "positions.txt"
    file.write_text("view_000 0 0 0\nview_001 6 0 0\nview_002 -8 0 0\n")
    scene = dataclasses.replace(scene, views=tuple(views))
    scaled, notes = apply_known(scene, read_known(str(file)))
    assert scaled.scale.residual == pytest.approx(np.sqrt(8 / 3))
    assert "1 unit = 2.4 m" in notes[0] and "residual 1.633 m" in notes[0]
    np.testing.assert_allclose(scaled.views[2].camera.world_from_cam[:3, 3], [0, 9.6, 0])


def _at(place):
    pose = np.eye(4)
    pose[:3, 3] = place
    return pose


def _transposed(maps: ViewMaps) -> ViewMaps:
    """Both maps with rows and columns swapped."""
    return ViewMaps(
        *(
            PointMap(points.points.transpose(1, 0, 2), points.confidence.T)
            for points in (maps.global_map, maps.local_map)
        )
    )
