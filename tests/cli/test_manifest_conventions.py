"""`manifest` on RGB-D data of other conventions: the mistake is named, and the option mends it."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps
from posed_rooms import (
    SIZE,
    change_depth_unit,
    change_intrinsics_size,
    change_poses,
    room_depth,
    write_room,
)

from distill3r_core.io.images.depth import read_depth
from distill3r_core.scenes.paths import pinhole

MISTAKES = {
    "--depth-scale 5000": (lambda room: change_depth_unit(room, 5000), "5000 units in a meter"),
    "--depth-scale 256": (lambda room: change_depth_unit(room, 256), "256 units in a meter"),
    "--depth-scale 8000": (lambda room: change_depth_unit(room, 8000), "8000 units"),
    "--pose-convention w2c": (
        lambda room: change_poses(room, invert=True),
        "camera-from-world",
    ),
    "--pose-axes opengl": (lambda room: change_poses(room, opengl=True), "OpenGL (y up"),
    "--pose-convention w2c --pose-axes opengl": (
        lambda room: change_poses(room, invert=True, opengl=True),
        "camera-from-world and the camera axes",
    ),
    "--intrinsics-size 49x35": (
        lambda room: change_intrinsics_size(room, (35, 49)),
        "images of 49x35",
    ),
    "--intrinsics-size 640x480": (
        lambda room: change_intrinsics_size(room, (480, 640)),
        "is not inside the image",
    ),
}


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_stops_and_its_option_gives_the_right_values(
    cli_inprocess, tmp_path, options
) -> None:
    mistake, message = MISTAKES[options]
    mistake(write_room(tmp_path / "rooms" / "a"))
    status, out, err = cli_inprocess("manifest", "rooms", "--views", "4", cwd=tmp_path)
    assert status == 1, err
    assert message in err
    assert options in err
    assert out == ""
    assert not (tmp_path / "data").exists()
    status, _, err = cli_inprocess(
        "manifest", "rooms", "--views", "4", *options.split(), cwd=tmp_path
    )
    assert status == 0, err
    _assert_right(tmp_path / "data", exact=0.004)


def test_a_recording_of_a_realsense_is_read_as_the_options_say(cli_inprocess, tmp_path) -> None:
    folder = write_room(tmp_path / "recordings" / "lab")
    change_depth_unit(folder, 4000)  # of an L515
    change_poses(folder, opengl=True)
    for old, new in (("rgb", "color"), ("depth", "aligned_depth")):
        (folder / old).rename(folder / new)
    k = np.loadtxt(folder / "intrinsics.txt") - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    (folder / "intrinsics.txt").unlink()
    (folder / "camera_info.yaml").write_text(
        f"height: {SIZE[0]}\nwidth: {SIZE[1]}\nK: {k.ravel().tolist()}\nD: [0, 0, 0, 0, 0]\n"
    )
    (tmp_path / "recordings.yaml").write_text(
        "- {name: lab, root: recordings, pattern: '*/color/*.png', depth: '*/aligned_depth/*.png', "
        "poses: '*/pose/*.txt', intrinsics: '*/camera_info.yaml'}\n"
    )
    command = ("manifest", "recordings.yaml", "--views", "4")
    status, _, err = cli_inprocess(*command, cwd=tmp_path)
    assert status == 1 and "--pose-axes opengl --depth-scale 4000" in err
    options = ("--depth-scale", "4000", "--pose-axes", "opengl")
    status, _, err = cli_inprocess(*command, *options, cwd=tmp_path)
    assert status == 0, err
    _assert_right(tmp_path / "data", exact=0.004)


def test_the_mistake_is_trusted_where_the_user_says_so(cli_inprocess, tmp_path) -> None:
    change_depth_unit(write_room(tmp_path / "rooms" / "a"), 5000)
    status, out, err = cli_inprocess(
        "manifest", "rooms", "--views", "4", "--trust", "--json", cwd=tmp_path
    )
    assert status == 0, err
    assert "trusted: depth, poses and intrinsics of rooms do not fit together" in err
    assert json.loads(out)["result"]["datasets"][0]["depth_agreement"]["agreement"] < 0.8
    depth, _ = room_depth(0, 12, 69.0)
    row = _rows(tmp_path / "data")[0]
    found = read_depth(tmp_path / "data" / row["depth_path"], stored="png16mm")
    np.testing.assert_allclose(found, 5 * depth[int(row["image_path"][-10:-4])], atol=4e-3)


def test_eval_checks_its_ground_truth_by_the_same_code(cli_inprocess, tmp_path) -> None:
    def metrics(folder: str) -> dict[str, float]:
        found = json.loads((tmp_path / folder / "result.json").read_text())["metrics"]
        return {name: value for name, value in found.items() if value is not None}

    room = write_room(tmp_path / "rooms" / "a")
    made = ("eval", "--data", "rooms", "--predict", "constant", "--size", "28x42")
    status, _, err = cli_inprocess(*made, "-o", "right", cwd=tmp_path)
    assert status == 0 and "depth carried between frames agrees within 5 % at" in err
    change_depth_unit(room, 256)
    change_poses(room, opengl=True)
    status, _, err = cli_inprocess(*made, "-o", "wrong", cwd=tmp_path)
    assert status == 1 and "--pose-axes opengl --depth-scale 256" in err
    assert not (tmp_path / "wrong").exists()
    mended = ("--pose-axes", "opengl", "--depth-scale", "256")
    status, _, err = cli_inprocess(*made, *mended, "-o", "mended", cwd=tmp_path)
    assert status == 0, err
    assert metrics("mended") == pytest.approx(metrics("right"), rel=0.02)
    status, _, err = cli_inprocess(*made, "--trust", "-o", "trusted", cwd=tmp_path)
    assert status == 0 and "trusted: depth, poses and intrinsics of rooms do not fit" in err
    # Depth is taken as it is: of 256 units in a meter, and read as millimeters.
    assert metrics("trusted")["acc"] == pytest.approx(0.256 * metrics("right")["acc"], rel=0.05)
    status, _, err = cli_inprocess("eval", "--depth-scale", "256", cwd=tmp_path)
    assert status == 2 and "give --data" in err


def test_good_data_say_how_well_they_agree(cli_inprocess, tmp_path) -> None:
    write_room(tmp_path / "rooms" / "a", 3)
    write_room(tmp_path / "rooms" / "b", 4)
    status, _, err = cli_inprocess("manifest", "rooms", "--views", "4", cwd=tmp_path)
    assert status == 0, err
    assert "depth carried between frames agrees within 5 % at" in err
    status, out, _ = cli_inprocess("manifest", "rooms", "--views", "4", "--json", cwd=tmp_path)
    assert json.loads(out)["result"]["datasets"][0]["depth_agreement"]["agreement"] > 0.8


def test_poses_of_another_scene_are_refused_without_a_remedy(cli_inprocess, tmp_path) -> None:
    room = write_room(tmp_path / "rooms" / "a", 1)
    _, poses = room_depth(7, 12, 69.0)
    rng = np.random.default_rng(0)
    for path, pose in zip(sorted((room / "pose").iterdir()), poses, strict=True):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        pose = pose.numpy().astype(float)
        pose[:3, :3] = pose[:3, :3] @ (turn * np.sign(np.linalg.det(turn)))
        np.savetxt(path, pose)
    status, _, err = cli_inprocess("manifest", "rooms", "--views", "4", cwd=tmp_path)
    assert status == 1
    assert "none of the usual mistakes explains it" in err
    assert "--trust" in err
    status, _, err = cli_inprocess("manifest", "rooms", "--views", "4", "--trust", cwd=tmp_path)
    assert status == 0, err


def test_the_trials_are_found_out_and_mended(cli_inprocess, data_dir, tmp_path) -> None:
    trials = {
        "09_depth_unit/tum5000": "--depth-scale 5000",
        "11_pose_convention/w2c": "--pose-convention w2c",
        "12_intrinsics/K_of_full": "--intrinsics-size 1294x924",
    }
    arguments = ("--views", "4", "-o")
    correct = data_dir / "trials" / "09_depth_unit" / "correct"
    assert cli_inprocess("manifest", correct, *arguments, "right", cwd=tmp_path)[0] == 0
    right = _rows(tmp_path / "right")
    for number, (trial, options) in enumerate(trials.items()):
        root = data_dir / "trials" / trial
        status, _, err = cli_inprocess("manifest", root, *arguments, str(number), cwd=tmp_path)
        assert status == 1
        assert options in err
        status, _, err = cli_inprocess(
            "manifest", root, *arguments, str(number), *options.split(), cwd=tmp_path
        )
        assert status == 0, err
        for found, wanted in zip(_rows(tmp_path / str(number)), right, strict=True):
            for name in ("pose", "K"):
                np.testing.assert_allclose(
                    json.loads(found[name]), json.loads(wanted[name]), rtol=1e-3, atol=1e-6
                )
            depths = (
                read_depth(tmp_path / folder / row["depth_path"], stored="png16mm")
                for folder, row in ((str(number), found), ("right", wanted))
            )
            np.testing.assert_allclose(*depths, atol=1.1e-3)


def test_both_invalid_codes_of_16_bit_depth_make_no_depth(cli_inprocess, tmp_path) -> None:
    room = write_room(tmp_path / "rooms" / "a")
    for path in (room / "depth").iterdir():
        stored = np.asarray(Image.open(path)).copy()
        stored[:20], stored[-20:] = 65535, 0
        Image.fromarray(stored).save(path)
    status, _, err = cli_inprocess("manifest", "rooms", "--views", "4", cwd=tmp_path)
    assert status == 0, err
    for row in _rows(tmp_path / "data"):
        depth = read_depth(tmp_path / "data" / row["depth_path"], stored="png16mm")
        assert (depth[:20] == 0).all()
        assert (depth[-20:] == 0).all()
        assert (depth[20:-20] > 0).all()


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_an_image_that_exif_turns_alone_stops(cli_inprocess, tmp_path, orientation) -> None:
    room = write_room(tmp_path / "rooms" / "a")
    _tag(room / "rgb" / "000005.png", orientation)
    status, _, err = cli_inprocess("manifest", "rooms", "--views", "4", cwd=tmp_path)
    assert status == 1
    assert "000005.png" in err
    assert f"has EXIF orientation {orientation}" in err
    assert "not its depth" in err
    arguments = ("manifest", "rooms", "--views", "4", "--trust")
    assert cli_inprocess(*arguments, cwd=tmp_path)[0] == 0
    (row,) = (row for row in _rows(tmp_path / "data") if row["sample_id"] == "000005")
    stored = Image.open(room / "rgb" / "000005.png")
    # Depth of the stored size belongs to the stored pixels; where no size tells, to upright ones.
    shown = stored if orientation >= 5 else ImageOps.exif_transpose(stored)
    taken = np.asarray(Image.open(tmp_path / "data" / row["image_path"]))
    np.testing.assert_array_equal(taken, np.asarray(shown.convert("RGB")))


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
@pytest.mark.parametrize("off", [0, 5])
def test_a_turn_that_k_alone_does_not_follow_stops(
    cli_inprocess, tmp_path, orientation, off
) -> None:
    room = write_room(tmp_path / "rooms" / "a")
    shutil.rmtree(room / "depth")
    (room / "intrinsics.txt").write_text(f"80 0 {SIZE[1] / 2 + off}\n0 80 35\n0 0 1\n")
    _tag(room / "rgb" / "000005.png", orientation)
    command = ("manifest", "rooms", "--views", "4", "--images-only")
    status, _, err = cli_inprocess(*command, cwd=tmp_path)
    if orientation < 5 and not off:
        assert status == 0, err  # the turn leaves K as it is
        return
    assert status == 1
    assert f"orientation {orientation}, which turns the image, but not its intrinsics" in err


def test_a_recording_whose_images_all_have_the_tag_is_taken_as_stored(
    cli_inprocess, tmp_path
) -> None:
    room = write_room(tmp_path / "rooms" / "a")
    for path in (room / "rgb").iterdir():
        _tag(path, 6)
    assert cli_inprocess("manifest", "rooms", "--views", "4", cwd=tmp_path)[0] == 1
    status, _, err = cli_inprocess("manifest", "rooms", "--views", "4", "--trust", cwd=tmp_path)
    assert status == 0, err
    _assert_right(tmp_path / "data", exact=1.1e-3)


def test_an_image_whose_depth_and_k_are_turned_with_it_is_taken(cli_inprocess, tmp_path) -> None:
    room = write_room(tmp_path / "rooms" / "a")
    upright = np.asarray(Image.open(room / "rgb" / "000005.png"))
    # Stored turned by 90 degrees counterclockwise; the tag turns it back.
    Image.fromarray(np.rot90(upright)).save(room / "rgb" / "000005.png")
    _tag(room / "rgb" / "000005.png", 6)
    status, _, err = cli_inprocess("manifest", "rooms", "--views", "4", cwd=tmp_path)
    assert status == 0, err
    _assert_right(tmp_path / "data", exact=1.1e-3)


def test_a_principal_point_on_the_border_stops(cli_inprocess, tmp_path) -> None:
    room = write_room(tmp_path / "rooms" / "a")
    shutil.rmtree(room / "depth")  # K alone, which nothing carries from frame to frame
    (room / "intrinsics.txt").write_text(f"80 0 {SIZE[1]}\n0 80 35\n0 0 1\n")
    status, _, err = cli_inprocess(
        "manifest", "rooms", "--views", "4", "--images-only", cwd=tmp_path
    )
    assert status == 1
    assert f"the principal point ({SIZE[1]}, 35) is not inside the image" in err
    trusted = ("manifest", "rooms", "--views", "4", "--images-only", "--trust")
    status, _, err = cli_inprocess(*trusted, cwd=tmp_path)
    assert status == 0, err
    assert (tmp_path / "data/manifest.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pose-convention", "cam2world"), "--pose-convention"),
        (("--pose-axes", "blender"), "--pose-axes"),
        (("--depth-scale", "0"), "--depth-scale"),
        (("--depth-scale", "nan"), "--depth-scale"),
        (("--intrinsics-size", "640"), "--intrinsics-size"),
    ],
)
def test_a_convention_that_does_not_exist_is_refused(
    cli_inprocess, tmp_path, arguments, message
) -> None:
    write_room(tmp_path / "rooms" / "a")
    status, _, err = cli_inprocess("manifest", "rooms", *arguments, cwd=tmp_path)
    assert status == 2
    assert message in err


def _rows(folder) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _assert_right(folder, *, exact: float) -> None:
    """The rows have the poses, depth and K of the room of seed 0."""
    depth, poses = room_depth(0, 12, 69.0)
    rows = _rows(folder)
    assert rows
    for row in rows:
        number = int(row["image_path"][-10:-4])
        pose = np.array(json.loads(row["pose"])).reshape(4, 4)
        np.testing.assert_allclose(pose, poses[number], atol=1e-5)
        K = np.array(json.loads(row["K"])).reshape(3, 3)
        np.testing.assert_allclose(K, pinhole(SIZE), rtol=1e-5, atol=1e-6)
        found = read_depth(folder / row["depth_path"], stored="png16mm")
        np.testing.assert_allclose(found, depth[number], atol=exact)


def _tag(path, orientation: int) -> None:
    image = Image.open(path)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
