"""Official weight files of every release, whole and damaged, from the command line."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from official_folders import official_tensors, write_folder
from PIL import Image
from safetensors.torch import save_file

from distill3r_core.cache.store import TeacherCache
from distill3r_core.teachers import TEACHERS

# Of releases that differ in their sizes alone, one network is recorded.
RECORDED = {
    "da3-small": "da3-small",
    "da3-base": "da3-small",
    "da3-large": "da3-small",
    "vggt": "vggt",
    "pi3": "pi3",
    "mast3r": "mast3r",
    "dust3r-512-dpt": "dust3r-512-dpt",
    "dust3r-512-linear": "dust3r-512-linear",
    "dust3r-224-linear": "dust3r-512-linear",
}
FILE = "model.safetensors"


class Hostile:
    """Makes a folder where its pickle is executed."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.fixture(scope="module")
def whole(golden_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("releases")
    return {name: write_folder(root / name, golden_dir, name) for name in set(RECORDED.values())}


@pytest.fixture
def home(cli_inprocess, tmp_path, monkeypatch):
    """A manifest of one sample of two views; no weights anywhere."""
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "no-weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(2):
        blobs = Image.fromarray(generator.integers(0, 255, (4, 5, 3), dtype=np.uint8))
        smooth = blobs.resize((160, 48), Image.Resampling.BICUBIC)  # wide: fewer pixels to predict
        smooth.save(tmp_path / "photos" / f"{number}.png")
    assert cli_inprocess("manifest", "photos", "--views", "2", cwd=tmp_path)[0] == 0
    return tmp_path


def damaged(kind, name, whole, golden_dir, home):
    """A weight file of a release with one fault, and what is said of it."""
    stem, folder = RECORDED[name], home / "damaged"
    shutil.copytree(whole[stem], folder)
    if kind == "hostile":
        torch.save({"model": {"weight": Hostile(home / "run")}}, home / "hostile.pth")
        return home / "hostile.pth", "refused"
    if kind == "cut":
        content = (folder / FILE).read_bytes()
        (folder / FILE).write_bytes(content[: len(content) // 2])
        return folder, "not a whole safetensors file"
    if kind == "other":
        return whole["pi3" if stem != "pi3" else "vggt"], "is not a weight file of"
    tensors = {key: value.contiguous() for key, value in official_tensors(golden_dir, stem).items()}
    if kind == "missing":
        lost = sorted(key for key in tensors if key.endswith("mlp.fc1.weight"))[-1]
        del tensors[lost]
        said = "missing: "
    else:
        tensors["stranger"] = torch.ones(1)
        said = "unknown: stranger"
    save_file(tensors, folder / FILE)
    return folder, said


@pytest.mark.parametrize("kind", ["missing", "unknown", "cut", "other", "hostile"])
@pytest.mark.parametrize("name", RECORDED)
def test_a_damaged_file_is_refused_before_a_cache_is_begun(
    cli_inprocess, home, whole, golden_dir, name, kind
):
    path, said = damaged(kind, name, whole, golden_dir, home)
    status, _, error = cli_inprocess(
        "cache", "--resume", "--teacher", name, "--weights", str(path), cwd=home
    )
    assert status == 3, error
    assert said in " ".join(error.split())
    assert "Traceback" not in error
    assert not (home / "run").exists()
    assert not (home / "caches").exists()


@pytest.mark.parametrize("name", RECORDED)
def test_a_whole_file_fills_a_cache_under_the_name_and_license_of_its_release(
    cli_inprocess, home, whole, name
):
    status, _, error = cli_inprocess(
        "cache", "--resume", "--teacher", name, "--weights", str(whole[RECORDED[name]]),
        "--size", "28x42", "--threshold", "0", cwd=home,
    )  # fmt: skip
    assert status == 0, error
    cache = TeacherCache(home / "caches/teacher")
    assert (cache.header.teacher, cache.header.license) == (name, TEACHERS[name].licenses[0])
    (sample,) = cache.names()
    assert cache.read(sample).targets.valid_mask.any()


def test_a_hostile_pickle_is_refused_cold_too(cli, home, whole, golden_dir):
    path, said = damaged("hostile", "mast3r", whole, golden_dir, home)
    done = cli("infer", "photos", "-m", str(path), cwd=home)
    assert done.returncode == 3, done.stderr
    assert said in " ".join(done.stderr.split())
    assert not (home / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_a_whole_file_is_found_cold_by_the_name_of_its_release(cli, home, whole, name):
    releases = home / "releases"
    shutil.copytree(whole[RECORDED[name]], releases / name)
    env = {"DISTILL3R_HOME": str(releases), "HF_HOME": str(home / "no-hub")}

    def run(*arguments, status=0) -> dict:
        done = cli(*arguments, "--json", cwd=home, env=env)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    found = run("infer", "photos", "-m", name, "--format", "npz", "-o", "out")["result"]
    assert found["model"] == name
    assert len(json.loads((home / "out/cameras.json").read_text())["cameras"]) == 2
    with np.load(home / "out/predictions.npz") as stored:
        for view in ("000", "001"):
            assert np.isfinite(stored[f"{view}/points_local"]).all()
    content = (releases / name / FILE).read_bytes()
    (releases / name / FILE).write_bytes(content[:-1])
    error = run("infer", "photos", "-m", name, "-o", "cut", status=3)["error"]
    assert "not a whole safetensors file" in error["message"]
    assert not (home / "cut").exists()
