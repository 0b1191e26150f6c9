"""`manifest --poses colmap`: poses of images that have none, by structure from motion."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from posed_rooms import SIZE, room_depth, write_room
from scipy.spatial.transform import Rotation
from trees import photos, rejected

from distill3r_core.data.layouts import Rig, scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ImageError
from distill3r_core.geometry.pnp import pnp_available
from distill3r_core.geometry.structure_from_motion import SolvedImage
from distill3r_core.io.checksums import read_sealed, write_sealed
from distill3r_core.io.images.decode import read_image
from distill3r_core.report import Silent
from distill3r_core.scenes.paths import pinhole
from distill3r_core.stages.manifest import estimated_poses

needs_colmap = pytest.mark.skipif(not pnp_available(), reason="the extra 'colmap' is not installed")
UNIT = 0.37  # meters in one unit of the pretended COLMAP


def angles(found, true):
    """Degrees between the turns from the first view to each, of two sets of poses."""
    turn = [np.linalg.inv(poses[0]) @ np.asarray(poses) for poses in (found, true)]
    cosine = (np.einsum("nij,nij->n", turn[0][:, :3, :3], turn[1][:, :3, :3]) - 1) / 2
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def turn_errors(found, true):
    """Degrees by which the turns between all pairs of views are off."""
    rotation = [np.asarray(poses)[:, :3, :3] for poses in (found, true)]
    first, second = np.triu_indices(len(found), 1)
    turn = [np.einsum("nji,njk->nik", one[first], one[second]) for one in rotation]
    cosine = (np.einsum("nij,nij->n", *turn) - 1) / 2
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def distance_ratios(found, true, least=0.05):
    """Distances between all pairs of views over the true ones that are at least `least` meters."""
    first, second = np.triu_indices(len(found), 1)
    between = [
        np.linalg.norm(np.asarray(poses)[first, :3, 3] - np.asarray(poses)[second, :3, 3], axis=1)
        for poses in (found, true)
    ]
    far = between[1] >= least
    return between[0][far] / between[1][far]


def path_length(poses):
    centers = np.asarray(poses)[:, :3, 3]
    return np.linalg.norm(centers - centers[0], axis=1).sum()


def walked(poses):
    """Length of the path from view to view."""
    return np.linalg.norm(np.diff(np.asarray(poses)[:, :3, 3], axis=0), axis=1).sum()


def sfm_poses(data_dir):
    """Published poses of the kitchen's frames by structure from motion, by their numbers.

    They drift less than the recorded ones; their unit is their own.
    """
    poses = {}
    path = data_dir / "7scenes_extra" / "redkitchen_seq-01_sfm_poses.txt"
    for line in path.read_text().splitlines():
        name, *numbers, _ = line.split()
        w, x, y, z, *move = map(float, numbers)
        cam_from_world = np.eye(4)
        cam_from_world[:3, :3] = Rotation.from_quat([x, y, z, w]).as_matrix()
        cam_from_world[:3, 3] = move
        poses[int(name.split("-")[2][:6])] = np.linalg.inv(cam_from_world)
    return poses


def told(err, found, true):
    """Print how far off the poses are."""
    print("\n".join(line for line in err.splitlines() if "COLMAP's" in line or "placed" in line))
    print("degrees from the first view, median, 90 %, last:", end=" ")
    first = angles(found, true)
    print(np.round([*np.percentile(first, (50, 90)), first[-1]], 2))
    between = turn_errors(found, true)
    print("degrees, all pairs, median, 90 %:", np.round(np.percentile(between, (50, 90)), 2))
    print("distances of all pairs over the recorded:", np.median(distance_ratios(found, true)))
    print("length of the path over the recorded:", walked(found) / walked(true))


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


def unposed_room(folder, solver):
    """A data set `rooms` of 8 frames without poses, which the solver places, and the true ones."""
    scene = write_room(folder / "rooms" / "one", views=8)
    shutil.rmtree(scene / "pose")
    depth, poses = room_depth(0, 8, 69.0)
    solver(depth, poses, pinhole(SIZE))
    (dataset,) = scan(folder / "rooms")
    return dataset, poses


def test_depth_gives_the_scale_and_lost_views_are_listed(cli_inprocess, solver, tmp_path):
    _, poses = unposed_room(tmp_path, solver)
    status, _, err = manifest(cli_inprocess, tmp_path, "rooms")
    assert status == 5, err
    assert "placed 7 of 8 images" in err
    assert "rooms/one: 1 image has no pose" in err
    assert "8 frames found, 7 used, 1 rejected" in err
    assert f"units is {UNIT}, by 7 views that differ by 0.0 %" in err
    found = poses_of(tmp_path)
    assert sorted(found) == [0, 1, 2, 4, 5, 6, 7]
    true = [poses[index].double().numpy() for index in found]
    got = list(found.values())
    relative = [np.linalg.inv(one[0]) @ np.array(one) for one in (got, true)]
    np.testing.assert_allclose(relative[0], relative[1], atol=2e-3)  # depth is stored in mm
    assert rejected(tmp_path / "data") == {"000003.png": estimated_poses.UNPLACED}


def test_an_image_that_cannot_be_read_is_refused_with_its_own_reason(solver, tmp_path):
    rooms, poses = unposed_room(tmp_path, solver)
    calls = solver(room_depth(0, 8, 69.0)[0], poses, pinhole(SIZE))
    (image,) = (tmp_path / "rooms").rglob("rgb/000005.png")
    image.write_bytes(image.read_bytes()[:100])
    listing, out = list_dataset(rooms), tmp_path / "data"
    (scene,) = listing.scenes
    kept = tmp_path / "data" / "colmap" / listing.name / f"{scene.scene_id}.json"
    with pytest.raises(ImageError) as read:
        read_image(image)

    def refused():
        posed = estimated_poses.with_estimated_poses(listing, out, check=False, progress=Silent())
        names = [frame.name for one in posed.scenes for frame in one.frames]
        assert names == ["000000", "000001", "000002", "000004", "000006", "000007"]
        return {item.path.name: item.reason for item in posed.refused}

    wanted = {"000003.png": estimated_poses.UNPLACED, "000005.png": str(read.value)}
    assert refused() == wanted
    assert refused() == wanted  # by what is kept
    assert len(calls) == 1
    record = read_sealed(kept)
    write_sealed(kept, {**record, "unread": ["000005"]})  # as older versions kept it
    assert refused() == wanted
    assert len(calls) == 2


def test_frames_without_depth_share_the_scale_of_their_scene(solver, tmp_path):
    rooms, poses = unposed_room(tmp_path, solver)
    (scene,) = list_dataset(rooms).scenes
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


def test_notes_agree_with_their_numbers(solver, tmp_path):
    rooms, _ = unposed_room(tmp_path, solver)
    listing = list_dataset(rooms)
    (scene,) = listing.scenes

    def notes(*scenes):
        posed = estimated_poses.with_estimated_poses(
            replace(listing, scenes=scenes), tmp_path / "data", check=True, progress=Silent()
        )
        return "\n".join(posed.notes[len(listing.notes) :])

    depth = scene.frames[0].depth
    frames = tuple(
        replace(frame, depth=depth if number == 0 else None)
        for number, frame in enumerate(scene.frames)
    )
    assert notes(replace(scene, frames=frames)).endswith("by 1 view")
    assert "COLMAP placed 7 of 8 images" in notes(scene)
    assert notes() == ""


def test_only_a_nominal_color_camera_is_replaced_by_the_estimate(solver, tmp_path):
    listing = list_dataset(unposed_room(tmp_path, solver)[0])
    (scene,) = listing.scenes
    # For images of twice the size: what is estimated is said for the images as they are.
    twice, beside = (2 * SIZE[0], 2 * SIZE[1]), np.eye(4)
    sensor = np.diag([2.0, 2, 1]) @ np.asarray(pinhole(SIZE), dtype=np.float64)
    stored = sensor * [[1.1, 1, 1], [1, 1.1, 1], [1, 1, 1]]  # a focal length that is not its own
    found = {}
    for is_nominal in (False, True):
        rig = Rig(stored, twice, depth=sensor, color_from_depth=beside, is_nominal=is_nominal)
        frames = tuple(replace(frame, rig=rig) for frame in scene.frames)
        posed = estimated_poses.with_estimated_poses(
            replace(listing, scenes=(replace(scene, frames=frames),)),
            tmp_path / "data",
            check=False,
            progress=Silent(),
        )
        rigs = {id(frame.rig): frame.rig for one in posed.scenes for frame in one.frames}
        found[is_nominal] = list(rigs.values())
    assert all(one.color is stored and one.size == twice for one in found[False])
    assert len(found[True]) == 7
    for one in found[True]:
        np.testing.assert_allclose(one.color, pinhole(SIZE), rtol=1e-6)
        np.testing.assert_allclose(one.depth, pinhole(SIZE), rtol=1e-6)
        assert (one.size, one.is_nominal) == (SIZE, False)
        assert one.color_from_depth is beside


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
    told(err, got, true)
    by_motion = sfm_poses(data_dir)
    by_motion = [by_motion[number] for number in found]
    told("against structure from motion of others: placed", got, by_motion)
    assert np.median(angles(got, by_motion)) < 1.0
    # Few views, far apart, whose recorded poses drift themselves.
    assert np.median(angles(got, true)) < 1.0
    assert path_length(got) / path_length(true) == pytest.approx(1, abs=0.1)
    assert json.loads(out)["result"]["images"] == len(numbers)
    phases = re.findall(r"COLMAP (\w+) (\d+)/(\d+) \1 ", err)
    assert len(phases) == 4 and all(done == total for _, done, total in phases), err


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
    told(err, got, true)
    by_motion = sfm_poses(data_dir)
    by_motion = [by_motion[number] for number in found]
    told("against structure from motion of others: placed", got, by_motion)
    assert np.median(angles(got, by_motion)) < 1.0
    assert np.median(angles(got, true)) < 2.0
    assert path_length(got) / path_length(true) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@needs_colmap
def test_the_castle(cli_inprocess, data_dir, tmp_path):
    status, _, err = manifest(cli_inprocess, tmp_path, data_dir / "castle")
    assert status == 0, err
    (error,) = re.findall(r"points are ([\d.]+) pixels from where they are seen", err)
    assert float(error) < 1
    count = len(list((data_dir / "castle").glob("*.JPG")))
    rows = read_manifest(tmp_path / "data" / "manifest.csv").rows
    assert sum(row.pose is not None for row in rows) == count
    assert {row.K_source for row in rows} == {"calibrated"}
