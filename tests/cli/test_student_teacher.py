"""A student as the teacher of another one, as a user types it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from posed_rooms import write_rendered_room

from distill3r_core.cache.store import TeacherCache
from distill3r_core.errors import ConfigError
from distill3r_core.io.checksums import file_hash
from distill3r_core.models import StudentMetadata, build_student, load_student, save_student
from distill3r_core.models.checkpoint import find_student
from distill3r_core.reconstruction.prediction.student_teacher import learned_threshold
from distill3r_core.teachers import build_teacher
from distill3r_core.teachers.base import FeatureTeacher
from distill3r_core.types import PointMaps, View

SIZE = (32, 48)


@pytest.fixture
def typed(cli_inprocess, tmp_path: Path):
    def run(*arguments: str, status: int = 0) -> str:
        found, out, err = cli_inprocess(*arguments, cwd=tmp_path)
        assert found == status, f"{arguments}\n{out}\n{err}"
        return err if status else out

    for seed in range(2):
        write_rendered_room(tmp_path / "rooms" / f"room-{seed}", seed, views=6, size=SIZE)
    run("manifest", "rooms", "--views", "2", "--stride", "2", "--val-scenes", "0.5")
    run("cache", "--size", "32x48", "-o", "exact")
    run("train", "--cache", "exact", "--preset", "pair-tiny", "--max-steps", "2", "-o", "teacher")
    return run


def test_a_pair_student_teaches_its_maps_and_its_features(typed, tmp_path: Path) -> None:
    # A sensor is sure of all its depth, and so is its student: 1 everywhere.
    said = ("--teacher", "student", "--weights", "teacher")
    typed("cache", *said, "--size", "32x48", "--features", "enc_norm", "-o", "said")
    cache, student = TeacherCache(tmp_path / "said"), load_student(tmp_path / "teacher")
    assert cache.header.weights_hash == file_hash(find_student(tmp_path / "teacher"))
    assert cache.header.metric  # as its teacher was: a property of the weights
    assert student.metadata is not None
    assert cache.header.license == ", ".join(student.metadata.licenses)
    assert cache.header.features == {"enc_norm": student.spec.encoder.width}
    name = next(iter(cache.names("train")))
    sample = cache.read(name)
    with torch.no_grad():
        maps = student(sample.images[None].float() / 255)
    assert isinstance(maps, PointMaps) and maps.points_local is not None
    valid = sample.targets.valid_mask
    assert cache.header.threshold is None
    assert valid.all()
    torch.testing.assert_close(
        sample.targets.points_local[valid], maps.points_local[0][valid], rtol=2e-3, atol=2e-3
    )

    stored = np.empty((len(sample.images), *cache.feature_shape(name, "enc_norm")), np.float16)
    cache.read_features_into(name, "enc_norm", range(len(sample.images)), stored)
    teacher = build_teacher("student", tmp_path / "teacher")
    assert isinstance(teacher, FeatureTeacher)
    again = teacher.encode_features(sample.images[None].float() / 255, "enc_norm")[0]
    assert stored.astype(np.float32) == pytest.approx(again.numpy(), rel=2e-3, abs=2e-3)

    learn = ("--preset", "pair-tiny", "--max-steps", "1", "--set", "loss.terms.feature={weight: 1}")
    typed("train", "--cache", "said", *learn, "-o", "stored")
    live = ("--set", "features.source=live", "--set", "features.weights=teacher")
    typed("train", "--cache", "said", *learn, *live, "-o", "live")
    verified = json.loads(
        typed("cache", "verify", "said", "--recompute", "1", "--weights", "teacher", "--json")
    )
    assert verified["error"] is None


def test_a_student_that_is_not_named_or_gives_no_features_is_refused(typed) -> None:
    missing = typed("cache", "--teacher", "student", "-o", "no", status=3)
    assert "is a student's run, checkpoint or weight file, and none is named" in missing
    assert "--weights PATH" in missing
    gone = typed("cache", "--teacher", "student", "--weights", "nowhere", "-o", "no", status=3)
    assert "there is no nowhere" in gone
    model = typed("infer", "rooms", "-m", "student", status=3)
    assert "and none is named" in model and "-m PATH" in model


def test_a_student_is_asked_at_its_own_size(typed, tmp_path: Path) -> None:
    """Which is not that of the cache where it was trained at another one."""
    smaller = ("--preset", "pair-tiny", "--set", "data.size=16x32", "--max-steps", "1")
    typed("train", "--cache", "exact", *smaller, "-o", "smaller")
    teacher = build_teacher("student", tmp_path / "smaller")
    image = np.zeros((64, 96, 3), np.uint8)
    assert teacher.prepare(View(image=image, sample="a", index=0)).image.shape == (3, 16, 32)
    typed("cache", "--teacher", "student", "--weights", "smaller",
          "--size", "32x48", "-o", "said")  # fmt: skip
    assert TeacherCache(tmp_path / "said").names("train")


@pytest.mark.parametrize(
    ("teacher", "threshold"),
    [("depth", None), ("fast3r", 0.3), ("fast3r + mast3r", 0.3), ("fast3r + depth", None),
     ("unknown", None), ("student", None)],
)  # fmt: skip
def test_a_student_is_as_sure_as_its_own_teacher(teacher: str, threshold: float | None) -> None:
    spec = build_student("pair-tiny").spec
    metadata = StudentMetadata("pair-tiny", spec, (32, 48), teacher=teacher)
    assert learned_threshold(metadata) == threshold
    assert learned_threshold(None) is None


def test_a_scene_student_is_no_teacher(tmp_path: Path) -> None:
    student = build_student("scene-mobilenet")
    metadata = StudentMetadata(preset="scene-mobilenet", spec=student.spec, size=(32, 64))
    save_student(tmp_path / "scene.safetensors", student, metadata)
    with pytest.raises(ConfigError, match="is a scene student, which knows one place"):
        build_teacher("student", tmp_path / "scene.safetensors")
