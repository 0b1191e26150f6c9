"""`infer` from the command line: given cameras, trajectories, quaternions, refused scales."""

import json

import numpy as np
import pytest
from infer_project import make_photos, run_infer
from plyfile import PlyData
from saved_runs import write_run
from scipy.spatial.transform import Rotation

from distill3r_core.models import load_student


def _cameras(folder) -> list[dict]:
    return json.loads((folder / "cameras.json").read_text())["cameras"]


def test_given_intrinsics_are_in_every_export(cli_inprocess, project) -> None:
    photos = make_photos(project / "photos", "a.png", "b.png")
    (project / "k.txt").write_text("70 0 33\n0 72 23\n0 0 1\n")
    for number, given in enumerate(("70,72,33,23", "k.txt")):
        folder = project / f"out{number}"
        status, _, err = run_infer(
            cli_inprocess, photos, "--intrinsics", given, "--format", "ply,nerfstudio,npz",
            "--conf", "0", "-o", folder.name, cwd=project,
        )  # fmt: skip
        assert status == 0, err
        for camera in _cameras(folder):
            assert camera["intrinsics"] == [[70, 0, 33], [0, 72, 23], [0, 0, 1]]
            assert camera["focal_source"] == "given"
        frame = json.loads((folder / "transforms.json").read_text())["frames"][1]
        assert (frame["fl_x"], frame["fl_y"], frame["cx"], frame["cy"]) == (70, 72, 33, 23)
        with np.load(folder / "predictions.npz") as npz:
            points, k = npz["000/points_local"].astype(np.float64), npz["000/intrinsics"]
        height, width = points.shape[:2]
        u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        projected = points @ k.T
        front = points[..., 2] > 0
        np.testing.assert_allclose(
            projected[front][:, 0] / points[front][:, 2], u[front], atol=0.01
        )
        np.testing.assert_allclose(
            projected[front][:, 1] / points[front][:, 2], v[front], atol=0.01
        )


def test_a_shared_camera_is_one(cli_inprocess, project) -> None:
    photos = make_photos(project / "photos", "a.png", "b.png", "c.png")
    status, _, err = run_infer(cli_inprocess, photos, "--shared-camera", "-o", "out", cwd=project)
    assert status == 0, err
    assert len({camera["intrinsics"][0][0] for camera in _cameras(project / "out")}) == 1


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        ("70,72,33", 3, "--intrinsics: no file"),
        ("70,72,330,23", 2, "is not inside the images, 64x48 pixels"),
        ("0,72,33,23", 2, "pinhole"),
    ],
)
def test_wrong_intrinsics_are_refused(cli_inprocess, project, given, status, message) -> None:
    photos = make_photos(project / "photos", "a.png", "b.png")
    found, _, err = run_infer(
        cli_inprocess, photos, "--intrinsics", given, cwd=project, json_too=False
    )
    assert found == status
    assert message in err


def test_trajectory_and_quaternions_are_the_poses(cli_inprocess, project) -> None:
    photos = make_photos(project / "photos", "a.png", "b.png", "c.png")
    status, report, err = run_infer(
        cli_inprocess, photos, "--format", "tum", "-o", "out", cwd=project
    )
    assert status == 0, err
    assert any(name.endswith("trajectory.txt") for name in report["files"])
    lines = np.loadtxt(project / "out" / "trajectory.txt")
    about = json.loads((project / "out" / "cameras.json").read_text())["about"]
    assert "ROS" in about["world_from_cam"]
    for number, (line, camera) in enumerate(zip(lines, _cameras(project / "out"), strict=True)):
        pose = np.array(camera["world_from_cam"])
        assert line[0] == number
        np.testing.assert_allclose(line[1:4], pose[:3, 3], rtol=1e-6)
        np.testing.assert_allclose(
            Rotation.from_quat(line[4:]).as_matrix(), pose[:3, :3], atol=1e-6
        )
        np.testing.assert_allclose(camera["quaternion"], line[4:], atol=1e-6)


def test_the_scale_of_one_distance_is_unverified(cli_inprocess, project) -> None:
    photos = make_photos(project / "photos", "a.png", "b.png")
    arguments = ("--scale-from", "a:b=2", "-o", "out")
    status, _, err = run_infer(cli_inprocess, photos, *arguments, cwd=project, json_too=False)
    assert status == 0, err
    assert "unverified: one distance cannot be checked" in err
    comments = " ".join(PlyData.read(project / "out" / "scene.ply").comments)
    assert "unverified" in comments


def test_a_distance_between_views_that_do_not_move_apart_is_refused(cli_inprocess, project) -> None:
    """Of a student whose global maps are its local ones all cameras stand in one place."""
    folder = project / "runs/tiny-001/checkpoints/best"
    student = load_student(folder / "model.safetensors")
    student.global_head.load_state_dict(student.local_head.state_dict())
    write_run(project / "runs/tiny-001", student, student.metadata, step=2)
    photos = make_photos(project / "photos", "a.png", "b.png")
    arguments = (photos, "--scale-from", "a:b=2", "-o", "out")
    status, _, err = run_infer(cli_inprocess, *arguments, cwd=project, json_too=False)
    assert status == 2, err
    assert "noise" in err and "% of" in err
    assert not (project / "out/scene.ply").exists()
