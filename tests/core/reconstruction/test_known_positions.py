"""Known distances and camera positions give a reconstruction its scale."""

import dataclasses

import numpy as np
import pytest
from exact_scene import exact_views, with_points, world_from_cams

from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.cameras.known_positions import (
    apply_known,
    check_known,
    read_known,
)
from distill3r_core.reconstruction.reconstruction import Reconstruction


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
