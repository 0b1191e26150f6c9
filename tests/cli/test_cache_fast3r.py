"""`distill3r cache --teacher fast3r` on real photographs, with a small random network."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.manifest_views import read_view
from distill3r_core.teachers import build_teacher, make_targets

sys.path.append(str(Path(__file__).parents[1] / "core" / "teachers"))
from fast3r_folders import hub_tensors, write_folder

SIZE = (28, 42)
ARGUMENTS = ("cache", "--teacher", "fast3r", "--size", "28x42", "--device", "cpu")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("hub"), hub_tensors())


@pytest.fixture
def photos(cli_inprocess, data_dir, tmp_path):
    """A folder with a manifest of one sample: strips of two photographs, as pixels cost time."""
    (tmp_path / "castle").mkdir()
    for path in sorted((data_dir / "castle").glob("*.JPG"))[:2]:
        with Image.open(path) as picture:
            width, height = picture.size
            strip = picture.crop((0, height // 3, width, height // 3 + width // 5))
            strip.save(tmp_path / "castle" / path.name, quality=95)
    status, _, error = cli_inprocess("manifest", "castle", "--views", "2", cwd=tmp_path)
    assert status == 0, error
    return tmp_path


def float16_step(values: np.ndarray) -> np.ndarray:
    return np.spacing(np.abs(values).astype(np.float16)).astype(np.float32)


def test_real_photos_become_the_targets_that_the_network_says(cli_inprocess, photos, hub):
    status, output, error = cli_inprocess(*ARGUMENTS, "--weights", hub, "--json", cwd=photos)
    assert status == 0, error
    assert json.loads(output)["failed"] == []
    cache = TeacherCache(photos / "caches/teacher")
    teacher = build_teacher("fast3r", hub)
    assert cache.header.teacher == "fast3r"
    assert cache.header.weights_hash == teacher.weights_hash
    assert cache.header.threshold == teacher.threshold

    (sample,) = read_manifest(photos / "data/manifest.csv").samples()
    prepared = [
        teacher.prepare(read_view(row, photos / "data", sample=sample.name, index=index))
        for index, row in enumerate(sample.rows)
    ]
    said = make_targets(teacher.predict(prepared), size=SIZE, threshold=teacher.threshold).targets
    stored = cache.read(sample.name).targets
    assert torch.equal(stored.valid_mask, said.valid_mask)
    assert said.valid_mask.any()
    for name in ("points_local", "points_global", "confidence_local", "confidence_global"):
        ours, theirs = getattr(stored, name).numpy(), getattr(said, name).numpy()
        # Local values are rounded to float16; what is derived from them carries their rounding.
        bar = 0.51 * float16_step(theirs)
        if name == "points_global":
            scale = np.abs(said.global_from_local[..., :3].numpy()).sum(-1).max()
            bar = scale * float16_step(np.abs(said.points_local.numpy()).max(-1, keepdims=True))
        assert (np.abs(ours - theirs) <= bar + 1e-6).all(), name

    status, _, error = cli_inprocess(*ARGUMENTS, "--weights", hub, "--resume", cwd=photos)
    assert status == 0, error
    other = write_folder(photos / "other", hub_tensors(seed=1))
    status, _, error = cli_inprocess(*ARGUMENTS, "--weights", other, "--resume", cwd=photos)
    assert status == 2
    assert "weights" in error


def test_missing_and_damaged_weights_end_the_run_before_it_creates_anything(
    cli_inprocess, photos, hub, monkeypatch
):
    monkeypatch.setenv("DISTILL3R_HOME", str(photos / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(photos / "no-hub"))
    status, _, error = cli_inprocess("cache", "--resume", cwd=photos)
    assert status == 3
    for words in (
        "model.safetensors", str(photos / "home" / "da3-small"),
        "distill3r models download da3-small", "distill3r models download fast3r",
        "--teacher synthetic", "a dry run, not your scene", "distill3r demo",
    ):  # fmt: skip
        assert words in " ".join(error.split()), words

    damaged = photos / "damaged"
    damaged.mkdir()
    shutil.copy(hub / "config.json", damaged)
    (damaged / "model.safetensors").write_bytes((hub / "model.safetensors").read_bytes()[:5000])
    status, _, error = cli_inprocess(*ARGUMENTS, "--weights", damaged, cwd=photos)
    assert status == 3
    assert "not a whole safetensors file" in " ".join(error.split())
    assert not (photos / "caches").exists()
