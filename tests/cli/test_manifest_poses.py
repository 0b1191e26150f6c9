"""`manifest --poses`: poses from a trajectory, a COLMAP model or `cameras.json`."""

import json

import numpy as np
import pytest
from trees import photos, save_picture, sevenscenes_sequence

from distill3r_core.data.known_poses import KnownPose, KnownPoses
from distill3r_core.data.layouts import Frame
from distill3r_core.data.manifest import read_manifest


def run(cli_inprocess, folder, *arguments):
    status, _, err = cli_inprocess(
        "manifest", "photos", "--val-scenes", "0", *arguments, cwd=folder
    )
    found = read_manifest(folder / "data" / "manifest.csv").rows if status == 0 else ()
    return status, {row.image_path.rsplit("/", 1)[-1]: row for row in found}, err


def test_a_trajectory_goes_by_the_numbers_in_names(cli_inprocess, tmp_path):
    for index, stamp in enumerate(("10.00", "10.50", "11.02", "12.00")):
        save_picture(tmp_path / "photos" / f"cam0_{stamp}.png", index)
    (tmp_path / "path.txt").write_text(
        "# stamp tx ty tz qx qy qz qw\n12.0 3 0 0 0 0 0 1\n10.0 1 0 0 0 0 0.5 0.5\n"
        "11.0 1.8 0 0 0 0 0 1\n11.04 2.2 0 0 0 0 0 1\n"
    )
    status, rows, err = run(cli_inprocess, tmp_path, "--poses", "path.txt")
    assert status == 0, err
    assert "3 of 4 frames have a pose in path.txt" in err
    centers = {name: row.pose and row.pose[3] for name, row in rows.items()}
    assert centers["cam0_10.00.png"] == 1
    assert centers["cam0_10.50.png"] is None
    assert centers["cam0_11.02.png"] == pytest.approx(2)  # halfway between two stamps
    np.testing.assert_allclose(
        np.array(rows["cam0_10.00.png"].pose).reshape(-1, 4)[:3, :3],
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        atol=1e-12,
    )
    assert {row.unit for row in rows.values() if row.pose} == {"m"}


@pytest.mark.parametrize("name", ["{:06d}.png", "img_{:06d}_left.png", "cam1.{:04d}.png"])
def test_a_counter_is_no_time_of_a_trajectory(cli_inprocess, tmp_path, name):
    for number in range(0, 60, 15):
        save_picture(tmp_path / "photos" / name.format(number), number)
    line = "{} {} 0 0 0 0 0 1\n"
    by_time = [line.format(f"{n / 30:.6f}", n / 30) for n in range(1800)]
    (tmp_path / "path.txt").write_text("".join(by_time))
    status, _, err = run(cli_inprocess, tmp_path, "--poses", "path.txt")
    assert status == 2 and "a pose of none of the frames" in err  # not that of the 15th second
    assert "counted from 0" not in err  # that is said of videos
    by_number = [line.format(n, n) for n in range(0, 60, 15)]
    (tmp_path / "path.txt").write_text("".join(by_number[:3]))
    status, rows, err = run(cli_inprocess, tmp_path, "--poses", "path.txt")
    assert status == 0, err
    assert [row.pose and row.pose[3] for row in rows.values()] == [0, 15, 30, None]


@pytest.mark.parametrize(
    ("stamps", "unposed", "hinted"),
    [
        ([n / 30 for n in range(300)], None, True),
        (range(1, 300), {"000000.png"}, True),
        (range(300), set(), False),
    ],
    ids=["seconds", "from 1", "from 0"],
)
def test_frames_of_a_video_are_counted_from_0(
    cli_inprocess, data_dir, tmp_path, stamps, unposed, hinted
):
    pytest.importorskip("av")
    (tmp_path / "photos").symlink_to(data_dir / "video")
    (tmp_path / "path.txt").write_text("".join(f"{n} {n} 0 0 0 0 0 1\n" for n in stamps))
    status, rows, err = run(cli_inprocess, tmp_path, "--poses", "path.txt")
    assert ("frames of a video are counted from 0" in err) == hinted
    assert status == (2 if unposed is None else 0), err
    assert {name for name, row in rows.items() if not row.pose} == (unposed or set())
    assert all(row.pose[3] == int(name[:-4]) for name, row in rows.items() if row.pose)


def test_a_dry_run_counts_poses_of_frames_that_are_still_in_a_video(
    cli_inprocess, data_dir, tmp_path
):
    pytest.importorskip("av")
    (tmp_path / "path.txt").write_text("0 0 0 0 0 0 0 1\n")
    arguments = ("--poses", "path.txt", "--dry-run")
    status, _, err = cli_inprocess("manifest", data_dir / "video", *arguments, cwd=tmp_path)
    assert status == 0 and "1 of 17 frames has a pose in path.txt (frames of a video" in err


def test_a_frame_of_a_video_has_the_pose_of_its_own_name(tmp_path):
    def known(x):
        pose = np.eye(4)
        pose[0, 3] = x
        return KnownPose(pose)

    names = {"000012.png": known(1), "000012": known(2), "desk_000012": known(3)}
    poses = KnownPoses(tmp_path, "m", names)
    places = ("video/desk.mp4/000012.png", "video/shelf.mp4/000012.png", "photos/000012.png")
    found = poses.matches([Frame("000012", tmp_path / place) for place in places])
    assert [one and one.known.pose[0, 3] for one in found] == [3, 1, 1]


def test_one_trajectory_is_not_that_of_two_recordings(cli_inprocess, tmp_path):
    for scene in ("first", "second"):
        photos(tmp_path / "rooms" / scene, 3)
    lines = [f"{number} {number} 0 0 0 0 0 1" for number in range(12)]
    (tmp_path / "path.txt").write_text("\n".join(lines))
    status, _, err = cli_inprocess("manifest", "rooms", "--poses", "path.txt", cwd=tmp_path)
    assert status == 2
    assert "path.txt does not tell scenes apart" in err
    assert "rooms/first" in err and "rooms/second" in err
    # Two roots are no other case than two folders of one.
    roots = ("rooms/first", "rooms/second")
    assert cli_inprocess("manifest", *roots, "--poses", "path.txt", cwd=tmp_path)[0] == 2
    one = ("rooms/first", "-o", "one", "--poses", "path.txt")
    status, _, err = cli_inprocess("manifest", *one, cwd=tmp_path)
    assert status in (0, 5) and "3 of 3 frames have a pose" in err


def test_a_colmap_model_goes_by_names_and_brings_intrinsics(cli_inprocess, tmp_path):
    photos(tmp_path / "photos", 3)
    model = tmp_path / "model"
    model.mkdir()
    (model / "cameras.txt").write_text("1 PINHOLE 64 48 60 62 32 24\n")
    (model / "images.txt").write_text(
        "1 1 0 0 0 -5 0 0 1 photos/IMG_8.png\n\n2 1 0 0 0 0 -6 0 1 IMG_10.png\n\n"
    )
    status, rows, err = run(cli_inprocess, tmp_path, "--poses", "model")
    assert status == 0, err
    assert "2 of 3 frames have a pose" in err
    assert rows["IMG_8.png"].pose is not None
    assert rows["IMG_8.png"].pose[3] == 5  # the camera's place, of camera-from-world
    assert rows["IMG_9.png"].pose is None
    assert rows["IMG_10.png"].pose is not None
    assert rows["IMG_10.png"].pose[7] == 6
    np.testing.assert_allclose(rows["IMG_8.png"].K, (30, 0, 16, 0, 31, 12, 0, 0, 1))
    assert rows["IMG_8.png"].K_source == "calibrated"
    assert rows["IMG_8.png"].unit == "none"


def test_cameras_of_infer(cli_inprocess, tmp_path):
    photos(tmp_path / "photos", 2)
    pose = np.eye(4)
    pose[2, 3] = 7
    camera = {
        "size": [24, 32],
        "intrinsics": [[30, 0, 16], [0, 30, 12], [0, 0, 1]],
        "world_from_cam": pose.tolist(),
    }
    cameras = [{"name": f"IMG_{number}.png", **camera} for number in (8, 9)]
    (tmp_path / "cameras.json").write_text(json.dumps({"about": {"unit": "m"}, "cameras": cameras}))
    status, rows, err = run(cli_inprocess, tmp_path, "--poses", "cameras.json")
    assert status == 0, err
    assert [row.pose and row.pose[11] for row in rows.values()] == [7, 7]


def test_poses_of_a_file_are_those_of_the_color_camera(cli_inprocess, tmp_path):
    sevenscenes_sequence(tmp_path / "photos", 2)
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    camera = {"size": [48, 64], "intrinsics": [[60, 0, 32], [0, 60, 24], [0, 0, 1]]}
    cameras = [
        {"name": f"frame-00000{number}.color.png", **camera, "world_from_cam": pose.tolist()}
        for number in (0, 1)
    ]
    (tmp_path / "cameras.json").write_text(json.dumps({"about": {"unit": "m"}, "cameras": cameras}))
    status, rows, err = run(cli_inprocess, tmp_path, "--poses", "cameras.json", "--trust")
    assert status == 0, err
    for row in rows.values():
        np.testing.assert_allclose(np.array(row.pose).reshape(4, 4), pose, atol=1e-9)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (None, 3, "no such file"),
        ("", 2, "has no poses"),
        ("1 2 3\n", 2, "line 1"),
        ("1 0 0 0 0 0 0 0\n", 2, "quaternion is 0"),
        ("99 0 0 0 0 0 0 1\n", 2, "a pose of none of the frames"),
    ],
)
def test_a_file_that_does_not_help_is_named(cli_inprocess, tmp_path, content, status, message):
    photos(tmp_path / "photos", 2)
    if content is not None:
        (tmp_path / "path.txt").write_text(content)
    found, _, err = run(cli_inprocess, tmp_path, "--poses", "path.txt")
    assert message in err
    assert found == status
    assert not (tmp_path / "data" / "manifest.csv").exists()
