"""The levels that a student of one kitchen gives to images of it and to others: minutes."""

from pathlib import Path

import pytest
import torch
from infer_project import run_infer

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


def test_sparser_views_than_trained_are_not_called_unreliable(cli_inprocess, kitchen):
    found = level(cli_inprocess, kitchen, "runs/kitchen", frames(kitchen)[::10])
    assert found in ("good", "worse")


@pytest.mark.parametrize("name", ["castle", "tree", "video"])
def test_images_unlike_the_kitchen_are_unreliable(cli_inprocess, kitchen, data_dir, name):
    assert level(cli_inprocess, kitchen, "runs/kitchen", [data_dir / name]) == "unreliable"


@pytest.mark.parametrize("model", ["runs/untrained", "random.safetensors"])
def test_a_student_that_has_learned_nothing_is_unreliable(cli_inprocess, kitchen, model):
    assert level(cli_inprocess, kitchen, model, frames(kitchen)[100:112]) == "unreliable"
