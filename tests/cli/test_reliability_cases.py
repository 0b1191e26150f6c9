"""The levels that a student of one kitchen gives to images of it and to others: minutes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from infer_project import run_infer
from PIL import Image

from distill3r_core.data.manifest import read_manifest
from distill3r_core.geometry.pose_errors import pair_errors
from distill3r_core.models import StudentMetadata, build_student, load_student, save_student

pytestmark = pytest.mark.slow
FRAMES = "data/images/7scenes_kitchen/redkitchen/seq-01"


@pytest.fixture(scope="module")
def kitchen(cli, data_dir, tmp_path_factory) -> Path:
    """A folder with students of a kitchen: one trained, one of 6 steps, one with random weights."""
    place = tmp_path_factory.mktemp("kitchen")
    for command in (
        ("manifest", data_dir / "7scenes_kitchen", "--stride", "1", "--val-frames", "last:40"),
        ("cache", "--resume"),
        ("train", "--preset", "tiny", "-o", "runs/kitchen"),
        ("train", "--preset", "tiny", "--max-steps", "6", "-o", "runs/untrained"),
    ):
        run = cli(*command, cwd=place, timeout=1500)
        assert run.returncode == 0, run.stderr
    metadata = load_student(place / "runs/kitchen").metadata
    assert metadata is not None
    torch.manual_seed(0)
    student = build_student("tiny")
    plain = StudentMetadata(
        preset="tiny", spec=student.spec, size=metadata.size, fit=metadata.fit, teacher="depth"
    )
    save_student(place / "random.safetensors", student, plain)
    return place


def level(cli_inprocess, place: Path, model: str, images: list[Path]) -> str:
    status, report, err = run_infer(
        cli_inprocess, *images, "-m", model, "-o", "out", "--overwrite", cwd=place
    )
    assert status == 0, err
    return report["result"]["reliability"]["level"]


def frames(place: Path) -> list[Path]:
    return sorted(path for path in (place / FRAMES).iterdir() if path.suffix in (".jpg", ".png"))


@pytest.mark.parametrize(("start", "size"), [(100, 4), (110, 8), (120, 20), (104, 12), (136, 4)])
def test_held_out_windows_of_the_kitchen_are_good(cli_inprocess, kitchen, start, size):
    chosen = frames(kitchen)[start : start + size]
    assert level(cli_inprocess, kitchen, "runs/kitchen", chosen) == "good"


@pytest.mark.parametrize(("start", "size"), [(0, 14), (3, 8), (47, 6)])
def test_sparser_views_than_trained_are_at_most_one_level_off(cli_inprocess, kitchen, start, size):
    """Every tenth frame: `worse` or `good`, never good where the truth is as bad as a guess."""
    chosen = frames(kitchen)[start::10][:size]
    found = level(cli_inprocess, kitchen, "runs/kitchen", chosen)
    assert found in ("good", "worse")
    levels = ("good", "worse", "unreliable")
    truth = true_level(kitchen, chosen)
    assert abs(levels.index(found) - levels.index(truth)) <= 1, (found, truth)


def true_level(place: Path, images: list[Path]) -> str:
    """The level by the poses of the result `out`, against those of the manifest.

    `good`: at most 1.5 times the held-out error; `unreliable`: three quarters of what a camera that
    does not turn would be off by.
    """
    rows = {row.image_path: row for row in read_manifest(place / "data/manifest.csv").rows}
    known = [rows[str(path.relative_to(place / "data"))].pose for path in images]
    truth = torch.tensor([list(pose) for pose in known if pose is not None]).reshape(-1, 4, 4)
    cameras = json.loads((place / "out/cameras.json").read_text())["cameras"]
    found = torch.tensor([camera["world_from_cam"] for camera in cameras])
    error = float(pair_errors(found.double(), truth.double()).rotation.median())
    still = torch.eye(4, dtype=torch.float64).expand(len(truth), 4, 4)
    turn = float(pair_errors(still, truth.double()).rotation.median())
    metadata = load_student(place / "runs/kitchen").metadata
    assert metadata is not None and metadata.calibration is not None
    held_out = metadata.calibration.rotation_error
    assert held_out is not None
    if turn >= 10 and error > 0.75 * turn:
        return "unreliable"
    return "good" if error <= 1.5 * held_out else "worse"


def test_a_black_first_frame_is_left_out_by_name(cli_inprocess, kitchen):
    chosen = frames(kitchen)[120:128]
    Image.new("RGB", (640, 480)).save(kitchen / "black.png")
    run = ("-m", "runs/kitchen", "-o", "out", "--overwrite")
    status, report, _ = run_infer(cli_inprocess, kitchen / "black.png", *chosen, *run, cwd=kitchen)
    assert status == 5 and report["result"]["views"] == len(chosen)
    assert [one["reason"][:5] for one in report["failed"]] == ["blank"]
    assert report["result"]["reliability"]["level"] == "good"


def test_a_dark_first_frame_that_is_not_blank_is_unreliable(cli_inprocess, kitchen):
    """As of a covered lens: a faint gradient and noise. All other views are in its frame."""
    noise = np.random.default_rng(0).normal(0, 1.5, (480, 640, 3))
    dark = np.clip(np.linspace(0, 6, 640)[:, None] + noise, 0, 255).astype(np.uint8)
    first = kitchen / "dark.png"  # views are in the order of their paths
    Image.fromarray(dark).save(first)
    chosen = [first, *frames(kitchen)[120:128]]
    assert level(cli_inprocess, kitchen, "runs/kitchen", chosen) == "unreliable"
    assert json.loads((kitchen / "out/run.json").read_text())["inputs"][0] == str(first)


@pytest.mark.parametrize("name", ["castle", "tree", "video"])
def test_images_unlike_the_kitchen_are_unreliable(cli_inprocess, kitchen, data_dir, name):
    assert level(cli_inprocess, kitchen, "runs/kitchen", [data_dir / name]) == "unreliable"


@pytest.mark.parametrize("model", ["runs/untrained", "random.safetensors"])
def test_a_student_that_has_learned_nothing_is_unreliable(cli_inprocess, kitchen, model):
    assert level(cli_inprocess, kitchen, model, frames(kitchen)[100:112]) == "unreliable"
