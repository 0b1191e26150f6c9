"""The additions of docs/extending.md, made from outside the package and run by the commands."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_caches import write_cache

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import read_rows
from distill3r_core.io.images.depth import read_depth
from distill3r_core.io.rgbd import write_rgbd_scene

HERE = Path(__file__).parent
TOYS = sorted(HERE.glob("toy_*.py"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    names = ("late", "early", "middle")
    for name in names:
        pixels = generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "frames.txt").write_text("early.png\nmiddle.png\nlate.png\n")
    return tmp_path


@pytest.mark.parametrize("path", TOYS, ids=lambda path: path.stem)
def test_an_addition_is_one_short_file_of_public_names(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 80
    imports = [line for line in text.splitlines() if "distill3r" in line and "import" in line]
    assert imports
    assert all(line.startswith("from distill3r_core.extend import ") for line in imports)


def test_every_addition_is_described():
    text = (HERE.parents[1] / "docs" / "extending.md").read_text()
    assert [path.name for path in TOYS if f"tests/extending/{path.name}" not in text] == []


def test_a_layout_is_read_by_manifest(cli_inprocess, photos):
    plugin = ("--plugin", HERE / "toy_layout.py")
    status, _, error = cli_inprocess("manifest", "photos", "--views", "2", *plugin, cwd=photos)
    assert status == 0, error
    with (photos / "data" / "manifest.csv").open() as file:
        rows = {int(row["sample_id"]): row["image_path"] for row in csv.DictReader(file)}
    assert len(rows) >= 2
    for number, path in rows.items():  # numbered by the lines of frames.txt
        name = ("early", "middle", "late")[number]
        stored = np.asarray(Image.open(photos / "data" / path).convert("RGB"))
        assert (stored == np.asarray(Image.open(photos / "photos" / f"{name}.png"))).all()


def test_a_depth_codec_is_read_by_manifest(cli_inprocess, photos):
    depths = {}
    for number, name in enumerate(("early", "late", "middle"), start=1):
        depths[name] = np.full((30, 40), number, dtype=np.float32)
        np.save(photos / "photos" / f"{name}.npy", depths[name])
    plugin = ("--plugin", HERE / "toy_depth_codec.py")
    status, _, error = cli_inprocess("manifest", "photos", "--views", "2", *plugin, cwd=photos)
    assert status == 0, error
    rows = read_rows(photos / "data" / "manifest.csv")
    assert len(rows) >= 2
    for row in rows:
        depth = read_depth(photos / "data" / row.depth_path, stored=row.depth_format)
        assert (depth == depths[Path(row.image_path).stem]).all()


def test_a_teacher_fills_a_cache_that_knows_its_plugin(cli_inprocess, photos):
    assert cli_inprocess("manifest", "photos", "--views", "2", cwd=photos)[0] == 0
    line = ("cache", "--teacher", "wall", "--size", "28x42", "--resume")
    plugin = ("--plugin", HERE / "toy_teacher.py")
    status, _, error = cli_inprocess(*line, *plugin, cwd=photos)
    assert status == 0, error
    cache = TeacherCache(photos / "caches" / "teacher")
    assert list(cache.header.plugins) == ["toy_teacher.py"]
    depth = cache.read(cache.names()[0]).targets.points_local[..., 2]
    assert depth.min() == depth.max() == 2.0
    status, _, error = cli_inprocess(
        "cache", "verify", "--recompute", "1", *plugin, cwd=photos
    )  # fmt: skip
    assert status == 0, error
    status, _, error = cli_inprocess(*line, cwd=photos)
    assert status == 2
    assert "unknown teacher 'wall'" in error


def test_a_loss_term_is_trained_with(cli_inprocess, tmp_path):
    write_cache(tmp_path / "caches" / "teacher")
    line = ("train", "--preset", "tiny", "--device", "cpu", "--max-steps", "2", "-o", "run", "-q")
    plugin = ("--plugin", HERE / "toy_loss_term.py")
    term = ("--set", "loss.terms.smoothness={weight: 0.5, power: 2}")
    status, _, error = cli_inprocess(*line, *plugin, *term, cwd=tmp_path)
    assert status == 0, error
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert any(value > 0 for row in rows for key, value in row.items() if "smoothness" in key)
    status, _, error = cli_inprocess(*line, *term, cwd=tmp_path)
    assert status == 2
    assert "unknown loss term 'smoothness'" in error


def test_a_family_is_trained_by_its_preset_and_read_back(cli_inprocess, tmp_path):
    write_cache(tmp_path / "caches" / "teacher")
    line = ("train", "--preset", "flat-tiny", "--device", "cpu", "-o", "run", "-q")
    plugin = ("--plugin", HERE / "toy_preset.py")
    status, _, error = cli_inprocess(*line, *plugin, cwd=tmp_path)
    assert status == 0, error
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
    source = tmp_path / "run" / "checkpoints" / "last" / "model.safetensors"
    status, _, error = cli_inprocess("eval", "run", *plugin, "--device", "cpu", cwd=tmp_path)
    assert status == 0, error
    status, _, error = cli_inprocess("convert", source, "out.safetensors", cwd=tmp_path)
    assert status == 3
    assert "unknown student family 'flat'" in error


def test_a_metric_is_reported_by_its_protocol(cli_inprocess, tmp_path):
    camera = torch.tensor([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]])
    depth = 1 + torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(0))
    poses = torch.eye(4).repeat(3, 1, 1)
    write_rgbd_scene(tmp_path / "rooms" / "a", torch.rand(3, 3, 30, 40), depth, poses, camera)
    line = ("eval", "--data", "rooms", "--predict", "constant", "--protocol", "extremes")
    options = ("--size", "28x42", "--device", "cpu", "--json", "--trust")  # its depth is noise
    plugin = ("--plugin", HERE / "toy_metric.py")
    status, out, error = cli_inprocess(*line, *options, *plugin, cwd=tmp_path)
    assert status == 0, error
    result = json.loads(out)["result"]
    assert 100 * result["metrics"]["worst"] > result["metrics"]["acc"] > 0  # meters, centimeters
    (record,) = (tmp_path / "results" / "eval").rglob("run.json")
    assert "toy_metric.py" in json.loads(record.read_text())["identity"]["plugins"]


def test_a_baseline_is_scored_beside_the_others(cli_inprocess, tmp_path):
    camera = torch.tensor([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]])
    rays = torch.stack(torch.meshgrid(torch.arange(40.0), torch.arange(30.0), indexing="xy"), -1)
    depth = 1 / (1 + (((rays + 0.5 - camera[:2, 2]) / 40) ** 2).sum(-1)).sqrt()  # a sphere's z
    poses = torch.eye(4).repeat(3, 1, 1)
    images = torch.rand(3, 3, 30, 40)
    write_rgbd_scene(tmp_path / "rooms" / "a", images, depth.expand(3, 30, 40), poses, camera)
    line = ("eval", "--data", "rooms", "--predict", "constant", "--device", "cpu", "--json")
    plugin = ("--plugin", HERE / "toy_baseline.py")
    status, out, error = cli_inprocess(*line, "--size", "28x42", *plugin, cwd=tmp_path)
    assert status == 0, error
    result = json.loads(out)["result"]
    assert 0 <= result["baselines"]["sphere"]["acc"] < result["metrics"]["acc"]


def test_a_format_is_written_by_infer(cli_inprocess, photos):
    write_cache(photos / "caches" / "teacher")
    train = ("train", "--preset", "tiny", "--max-steps", "1", "--device", "cpu", "-o", "run", "-q")
    assert cli_inprocess(*train, cwd=photos)[0] == 0
    line = ("infer", "photos", "-m", "run", "--device", "cpu", "--format", "xyz", "-o", "out")
    status, _, error = cli_inprocess(*line, "--plugin", HERE / "toy_format.py", cwd=photos)
    assert status == 0, error
    cloud = np.loadtxt(photos / "out" / "scene.xyz")
    assert cloud.shape[1] == 6
    assert np.isfinite(cloud).all()
    record = json.loads((photos / "out" / "run.json").read_text())
    assert list(record["identity"]["plugins"]) == ["toy_format.py"]
    status, _, error = cli_inprocess(*line, cwd=photos)
    assert status == 2
    assert "xyz" in error
