"""`manifest --poses colmap`: poses of images that have none, by structure from motion."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from posed_rooms import SIZE, room_depth, write_room
from trees import photos, rejected

from distill3r_core.data.layouts import scan
from distill3r_core.data.manifest import read_manifest
from distill3r_core.geometry.pnp import pnp_available
from distill3r_core.geometry.structure_from_motion import SolvedImage
from distill3r_core.scenes.paths import pinhole
from distill3r_core.stages.manifest import estimated_poses

needs_colmap = pytest.mark.skipif(not pnp_available(), reason="the extra 'colmap' is not installed")
UNIT = 0.37  # meters in one unit of the pretended COLMAP


def angles(found, true):
    """Degrees between the turns from the first view to each, of two sets of poses."""
    turn = [np.linalg.inv(poses[0]) @ np.asarray(poses) for poses in (found, true)]
    cosine = (np.einsum("nij,nij->n", turn[0][:, :3, :3], turn[1][:, :3, :3]) - 1) / 2
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def path_length(poses):
    centers = np.asarray(poses)[:, :3, 3]
    return np.linalg.norm(centers - centers[0], axis=1).sum()


def poses_of(folder):
    return {
        int(row.sample_id): np.array(row.pose).reshape(4, 4)
        for row in read_manifest(folder / "data" / "manifest.csv").rows
        if row.pose is not None
    }


def manifest(cli_inprocess, folder, root, *arguments):
    status, out, err = cli_inprocess(
        "manifest", root, "--val-scenes", "0", "--poses", "colmap", *arguments, cwd=folder
    )
    return status, out, err


@pytest.fixture
def solver(monkeypatch):
    """A solver that knows the truth, in a unit and a world of its own; the fourth view is lost."""
    calls = []

    def install(depth, poses, k):
        world = np.diag([1.0, -1, -1, 1])
        world[:3, 3] = 5, 6, 7

        def solve_images(views, *, ordered, on_step):
            sizes = [camera for _, camera in views]
            calls.append(ordered)
            rows, columns = np.mgrid[5:60:7, 5:90:9].reshape(2, -1)
            found = {}
            for index, camera in enumerate(sizes):
                pose = world @ np.asarray(poses[index], dtype=np.float64)
                pose[:3, 3] /= UNIT
                scale = camera.size[1] / SIZE[1]
                seen = np.asarray(depth[index])[rows, columns] / UNIT
                pixels = np.stack([columns + 0.5, rows + 0.5], 1) * scale
                found[index] = SolvedImage(
                    pose, pixels, seen, np.asarray(k, dtype=np.float64), camera.size
                )
            found.pop(3)
            return found

        monkeypatch.setattr(estimated_poses, "solve_images", solve_images)
        return calls

    return install


def test_depth_gives_the_scale_and_lost_views_are_listed(cli_inprocess, solver, tmp_path):
    write_room(tmp_path / "rooms" / "one", views=8)
    shutil.rmtree(tmp_path / "rooms" / "one" / "pose")
    depth, poses = room_depth(0, 8, 69.0)
    solver(depth, poses, pinhole(SIZE))
    status, _, err = manifest(cli_inprocess, tmp_path, "rooms")
    assert status == 5, err
    assert "placed 7 of 8 images" in err
    assert f"units is {UNIT}, by 7 views that differ by 0.0 %" in err
    found = poses_of(tmp_path)
    assert sorted(found) == [0, 1, 2, 4, 5, 6, 7]
    true = [poses[index].double().numpy() for index in found]
    got = list(found.values())
    relative = [np.linalg.inv(one[0]) @ np.array(one) for one in (got, true)]
    np.testing.assert_allclose(relative[0], relative[1], atol=2e-3)  # depth is stored in mm
    assert rejected(tmp_path / "data") == {"000003.png": estimated_poses.UNPLACED}


def test_frames_without_depth_share_the_scale_of_their_scene(solver, tmp_path):
    room = write_room(tmp_path / "rooms" / "one", views=8)
    shutil.rmtree(room / "pose")
    depth, poses = room_depth(0, 8, 69.0)
    solver(depth, poses, pinhole(SIZE))
    (dataset,) = scan(tmp_path / "rooms")
    (scene,) = dataset.list_scenes()
    frames = tuple(
        replace(one, depth=None) if index in (2, 5) else one
        for index, one in enumerate(scene.frames)
    )
    solved = estimated_poses._solve(replace(scene, frames=frames), lambda *step: None)
    got = np.array(list(solved.poses.values()))
    true = np.array([poses[int(name)].double().numpy() for name in solved.poses])
    assert len(got) == 7
    relative = [np.linalg.inv(one[0]) @ one for one in (got, true)]
    np.testing.assert_allclose(relative[0], relative[1], atol=2e-3)


def test_what_was_solved_is_not_solved_again_until_an_image_changes(
    cli_inprocess, solver, tmp_path
):
    scene = write_room(tmp_path / "rooms" / "one", views=8)
    shutil.rmtree(scene / "pose")
    depth, poses = room_depth(0, 8, 69.0)
    calls = solver(depth, poses, pinhole(SIZE))
    manifest(cli_inprocess, tmp_path, "rooms")
    before = (tmp_path / "data" / "manifest.csv").read_bytes()
    manifest(cli_inprocess, tmp_path, "rooms")
    assert len(calls) == 1
    assert (tmp_path / "data" / "manifest.csv").read_bytes() == before
    os.utime(scene / "rgb" / "000002.png", (1e9, 1e9))
    manifest(cli_inprocess, tmp_path, "rooms")
    assert len(calls) == 2
    kept = tmp_path / "data" / "colmap" / "rooms" / "one.json"
    kept.write_text(kept.read_text().replace("0", "1", 1))
    manifest(cli_inprocess, tmp_path, "rooms")
    assert len(calls) == 3  # damaged


def test_photographs_get_the_estimated_camera_and_no_unit(cli_inprocess, solver, tmp_path):
    photos(tmp_path / "photos", 6)
    depth, poses = torch.ones(6, *SIZE), torch.eye(4).repeat(6, 1, 1)
    solver(depth, poses, [[40, 0, 16], [0, 40, 12], [0, 0, 1]])
    status, _, err = manifest(cli_inprocess, tmp_path, "photos")
    assert status == 5, err
    rows = read_manifest(tmp_path / "data" / "manifest.csv").rows
    assert len(rows) == 5
    assert {row.unit for row in rows} == {"none"}
    assert {row.K_source for row in rows} == {"calibrated"}
    assert {row.K for row in rows} == {(40, 0, 16, 0, 40, 12, 0, 0, 1)}


def test_a_scene_in_which_no_frame_has_a_pose_is_accepted_with_empty_columns(
    cli_inprocess, tmp_path
):
    for name in ("one", "two"):
        write_room(tmp_path / "rooms" / name, views=4)
    shutil.rmtree(tmp_path / "rooms" / "one" / "pose")
    (tmp_path / "rooms" / "two" / "pose" / "000001.txt").unlink()
    status, _, err = cli_inprocess("manifest", "rooms", "--val-scenes", "0", cwd=tmp_path)
    assert status == 5, err
    assert "no frame of 1 of 2 scenes has a pose (--poses colmap estimates them)" in err
    rows = read_manifest(tmp_path / "data" / "manifest.csv").rows
    posed = {(row.scene_id, row.sample_id): row.pose is not None for row in rows}
    assert [posed[key] for key in sorted(posed)] == [False] * 4 + [True] * 3
    assert all(row.depth_path and row.K_source == "calibrated" for row in rows)
    # A frame whose file is missing among others stays refused.
    assert list(rejected(tmp_path / "data")) == ["000001.png"]
    status, _, err = cli_inprocess("cache", "--size", "70x98", cwd=tmp_path)
    assert status == 3
    assert "--poses colmap" in err and "--teacher depth" in err


def test_images_alone_and_colmap_contradict_each_other(cli_inprocess, tmp_path):
    photos(tmp_path / "photos", 3)
    status, _, err = manifest(cli_inprocess, tmp_path, "photos", "--images-only")
    assert status == 2
    assert "poses: colmap estimates what images_only leaves out" in err


def test_without_the_extra_the_command_that_adds_it_is_named(cli_inprocess, monkeypatch, tmp_path):
    photos(tmp_path / "photos", 3)
    monkeypatch.setattr("distill3r_core.geometry.pnp.pnp_available", lambda: False)
    status, _, err = manifest(cli_inprocess, tmp_path, "photos")
    assert status != 0
    assert "pip install 'distill3r[colmap]'" in err
    assert not (tmp_path / "data").exists()


@needs_colmap
def test_the_kitchen_without_its_poses(cli_inprocess, data_dir, tmp_path):
    source = data_dir / "7scenes_kitchen" / "redkitchen" / "seq-01"
    target = tmp_path / "kitchen" / "seq-01"
    target.mkdir(parents=True)
    numbers = range(0, 140, 20)
    for number in numbers:
        for kind in ("color.jpg", "depth.png"):
            shutil.copy(source / f"frame-{number:06d}.{kind}", target)
    status, out, err = manifest(cli_inprocess, tmp_path, "kitchen", "--json")
    assert status == 0, err
    found = poses_of(tmp_path)
    assert list(found) == list(numbers)
    true = [np.loadtxt(source / f"frame-{number:06d}.pose.txt") for number in found]
    got = list(found.values())
    # Few views, far apart, whose recorded poses drift themselves.
    assert np.median(angles(got, true)) < 1.0
    assert path_length(got) / path_length(true) == pytest.approx(1, abs=0.1)
    assert json.loads(out)["result"]["images"] == len(numbers)


@pytest.mark.slow
@needs_colmap
def test_every_second_frame_of_the_kitchen_without_its_poses(cli_inprocess, data_dir, tmp_path):
    source = data_dir / "7scenes_kitchen" / "redkitchen" / "seq-01"
    target = tmp_path / "kitchen" / "seq-01"
    target.mkdir(parents=True)
    stems = [path.name.split(".")[0] for path in sorted(source.glob("*.color.jpg"))[::2]]
    for stem in stems:
        for kind in ("color.jpg", "depth.png"):
            shutil.copy(source / f"{stem}.{kind}", target)
    status, _, err = manifest(cli_inprocess, tmp_path, "kitchen")
    assert status in (0, 5), err
    found = poses_of(tmp_path)
    assert len(found) > 0.9 * len(stems)
    true = [np.loadtxt(source / f"frame-{number:06d}.pose.txt") for number in found]
    got = list(found.values())
    print(len(found), "placed, degrees", np.percentile(angles(got, true), (50, 90)))
    print("path length over the recorded", path_length(got) / path_length(true))
    assert np.median(angles(got, true)) < 2.0
    assert path_length(got) / path_length(true) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@needs_colmap
def test_the_castle(cli_inprocess, data_dir, tmp_path):
    status, _, err = manifest(cli_inprocess, tmp_path, data_dir / "castle")
    assert status == 0, err
    count = len(list((data_dir / "castle").glob("*.JPG")))
    rows = read_manifest(tmp_path / "data" / "manifest.csv").rows
    assert sum(row.pose is not None for row in rows) == count
    assert {row.K_source for row in rows} == {"calibrated"}
