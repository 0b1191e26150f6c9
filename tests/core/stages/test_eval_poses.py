"""`eval --poses FILE`: poses of a file are the truth, in place of the data's own."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scored_room import FRAMES, SIZE, score

from distill3r_core import config
from distill3r_core.data.frame_processing import Processing
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.known_poses import best_matches, posed_frames, read_known_poses
from distill3r_core.data.layouts import Frame, frames_for_test, scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.errors import ConfigError, NothingUsableError, RequestError
from distill3r_core.evaluation.data_frames import read_test_data
from distill3r_core.evaluation.protocols import PROTOCOLS, Published, PublishedRow
from distill3r_core.evaluation.view_truth import fit_views
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.report import Silent
from distill3r_core.stages.evaluate import EvalSettings

MISSING = 2  # the frame that the trajectory does not name


def read_rooms(here, poses=None):
    """The truth of the room at the grid of the student."""
    return read_test_data(
        here / "rooms",
        layout="auto",
        protocol=PROTOCOLS["table2"],
        processing=Processing(),
        prepare=partial(fit_views, fit=ImageFit(size=SIZE)),
        trained_on=(),
        poses=poses,
        progress=Silent(),
    )


@pytest.fixture
def world():
    """Another world frame for the room."""
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", (40, -70, 110), degrees=True).as_matrix()
    moved[:3, 3] = 3, -2, 7
    return moved


@pytest.fixture
def trajectory(here, tmp_path, world):
    """The room's own poses in the other world, as TUM writes them, without one frame."""
    (truth,) = read_rooms(here).truths
    lines = ["# stamp tx ty tz qx qy qz qw"]
    for number, pose in enumerate(truth.poses.numpy()):
        moved = world @ pose
        numbers = (*moved[:3, 3], *Rotation.from_matrix(moved[:3, :3]).as_quat())
        if number != MISSING:
            lines.append(" ".join(map(repr, map(float, (number, *numbers)))))
    path = tmp_path / "trajectory.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_poses_of_a_trajectory_replace_those_of_the_data(here, trajectory, world):
    (own,) = read_rooms(here).truths
    found = read_rooms(here, read_known_poses(trajectory))
    (truth,) = found.truths
    kept = [index for index in range(FRAMES) if index != MISSING]
    expected = torch.from_numpy(world) @ own.poses[kept]
    torch.testing.assert_close(truth.poses, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(truth.points, own.points[kept])
    (left_out,) = found.failed
    assert left_out.item.endswith(f"{MISSING:06d}.png")
    assert left_out.reason == f"{trajectory} has no pose of it"


def test_the_result_names_the_file_and_the_frames_that_it_lacks(here, trajectory, tmp_path):
    report = score(
        data=here / "rooms", poses=trajectory, predict="truth", size="28x42", output=tmp_path / "o"
    )
    assert report.result["views"] == FRAMES - 1
    assert report.result["metrics"]["acc"] == pytest.approx(0, abs=1e-4)
    assert str(trajectory) in report.result["rules"]["true poses"]
    assert str(trajectory) in (tmp_path / "o/tables.md").read_text()
    assert [one.reason for one in report.failed] == [f"{trajectory} has no pose of it"]
    own = score(data=here / "rooms", predict="truth", size="28x42")
    assert "true poses" not in own.result["rules"] and own.result["views"] == FRAMES


def test_published_figures_do_not_stand_beside_another_truth(
    here, trajectory, tmp_path, monkeypatch
):
    def shown(views, **options):
        row = PublishedRow("another system", (28, 42), {"acc": 1.0})
        published = Published(frozenset({"one"}), views, (row,))
        monkeypatch.setitem(PROTOCOLS["table2"].published, "rgbd", published)
        report = score(
            data=here / "rooms", predict="truth", size="28x42", output=tmp_path / "o",
            overwrite=True, **options,
        )  # fmt: skip
        return report.result["published"]

    assert shown(FRAMES) == {"another system, 28x42": {"acc": 1.0}}
    assert shown(FRAMES - 1, poses=trajectory) == {}
    assert shown(FRAMES, depth_scale=1000.0) == {}


def test_a_file_that_names_no_frame_leaves_nothing_to_score(here, tmp_path):
    path = tmp_path / "other.txt"
    path.write_text("99 0 0 0 0 0 0 1\n")
    with pytest.raises(NothingUsableError, match="has no pose of it"):
        score(data=here / "rooms", poses=path, predict="truth", size="28x42")


@pytest.fixture
def two_rooms(here, tmp_path):
    """The room twice, as two scenes of one data set."""
    root = tmp_path / "two/rooms"
    for name in ("one", "two"):
        shutil.copytree(here / "rooms/one", root / name)
    return root


def write_list(path, names):
    """A list in which each image is further to the side than the one before."""
    lines = (f"{name} 1 0 0 0 {-number} 0 0 500\n" for number, name in enumerate(names))
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("names", ["trajectory", "{:06d}.png", "rgb/{:06d}.png"])
def test_one_trajectory_is_not_given_to_two_scenes(two_rooms, trajectory, tmp_path, names):
    path = trajectory
    if names != "trajectory":
        path = write_list(tmp_path / "list.txt", map(names.format, range(FRAMES)))
    with pytest.raises(RequestError, match=f"{path.name} does not tell scenes apart") as caught:
        score(data=two_rooms, poses=path, predict="truth", size="28x42")
    assert "000000.png of rooms/one and 000000.png of rooms/two" in caught.value.message
    assert "one scene at a time" in caught.value.hint and "one/rgb/000000.png" in caught.value.hint


def test_names_with_the_folders_of_scenes_give_each_its_own_poses(two_rooms, tmp_path):
    names = [f"{scene}/rgb/{n:06d}.png" for scene in ("one", "two") for n in range(FRAMES)]
    known = read_known_poses(write_list(tmp_path / "list.txt", names))
    scenes = dict(frames_for_test(two_rooms, "rgbd"))
    best = best_matches(scenes.items(), known)
    found = {name: posed_frames(frames, known, best) for name, frames in scenes.items()}
    for number, scene in enumerate(("rooms/one", "rooms/two")):
        sides = [frame.pose[0, 3] for frame in found[scene]]
        assert sides == list(range(number * FRAMES, (number + 1) * FRAMES))
    # A list of one of them is of that one alone, although it has the names of both.
    known = read_known_poses(write_list(tmp_path / "one.txt", names[FRAMES:]))
    best = best_matches(scenes.items(), known)
    found = {name: posed_frames(frames, known, best) for name, frames in scenes.items()}
    assert all(frame.pose is None for frame in found["rooms/one"])
    assert [frame.pose[0, 3] for frame in found["rooms/two"]] == list(range(FRAMES))


def test_images_of_the_folder_that_is_read_are_told_from_those_below_it(tmp_path):
    known = read_known_poses(write_list(tmp_path / "list.txt", ["a.png"]))
    scenes = {name: (Frame("a", Path(name), 0),) for name in ("a.png", "one/a.png")}
    with pytest.raises(RequestError, match=r"fits a.png of a.png and a.png of one/a.png"):
        best_matches(scenes.items(), known)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "give --data"),
        ({"data": "rooms", "pose_axes": "opengl"}, "the data's own poses"),
    ],
)
def test_poses_without_data_or_with_other_conventions_are_refused(given, reason):
    with pytest.raises(ConfigError, match=reason):
        config.validate(EvalSettings, {"poses": "poses.txt", **given}, source="settings")


def test_a_list_is_read_as_it_is_published(data_dir):
    known = read_known_poses(data_dir / "7scenes_extra/redkitchen_seq-01_sfm_poses.txt")
    (dataset,) = scan(data_dir / "7scenes_kitchen")
    (scene,) = list_dataset(dataset).scenes
    frames = scene.frames[:40:13]
    posed = posed_frames(frames, known)
    assert all(frame.pose is not None for frame in posed)
    # The first line of the file, by hand: name, w, x, y, z, translation, focal length.
    first = np.eye(4)
    turn = Rotation.from_quat([0.0120587, 0.128058, 0.138496, 0.981975])
    first[:3, :3], first[:3, 3] = turn.as_matrix(), (0.365815, 0.104954, -0.401951)
    found = [read_source_frame(frame).world_from_cam for frame in posed]
    np.testing.assert_allclose(found[0], np.linalg.inv(first), atol=1e-6)
    # It is a pose of the color camera, and the recorded ones are of the depth camera, and drift:
    # between two frames, both turn by nearly as much about the same axis.
    apart = scene.frames[:17:16]
    own, listed = (
        [read_source_frame(frame).world_from_cam for frame in one]
        for one in (apart, posed_frames(apart, known))
    )
    turns = [one[0][:3, :3].T @ one[1][:3, :3] for one in (own, listed)]
    assert degrees_of(turns[0]) > 12
    assert degrees_of(turns[0].T @ turns[1]) < 2
    assert degrees_of(turns[0] @ turns[1]) > 20  # were the list world from camera


def degrees_of(turn):
    """The angle of a rotation."""
    return np.degrees(Rotation.from_matrix(turn).magnitude())


def test_a_damaged_list_is_refused_by_its_line(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a.png 1 0 0 0 1 2 3 500\nb.png 1 0 0 zero 1 2 3 500\n")
    with pytest.raises(RequestError, match=r"list.txt, line 2"):
        read_known_poses(path)


def test_names_of_a_list_are_found_with_and_without_folder_and_suffix(here, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("seq/a.png 1 0 0 0 1 2 3 500\nother/b.png 1 0 0 0 4 5 6 500\n")
    known = read_known_poses(path)
    for name in ("seq/a.png", "seq/a", "a.png", "a"):
        np.testing.assert_array_equal(known.by_name[name].pose[:3, 3], (-1, -2, -3))
    # It is in meters, also beside depth in millimeters and beside none at all.
    (frame,) = dict(frames_for_test(here / "rooms", "rgbd")).popitem()[1][:1]
    frame = replace(frame, image=tmp_path / "seq/a.png")
    for depth, unit, factor in (
        (frame.depth, "mm", 1000),
        (frame.depth, "m", 1),
        (None, "none", 1),
    ):
        (posed,) = posed_frames([replace(frame, depth=depth, unit=unit)], known)
        np.testing.assert_allclose(posed.pose[:3, 3], -factor * np.array([1, 2, 3]))
        assert posed.unit == ("m" if depth is None else unit)
