"""Settings of teachers that are run as models: `--set teacher.graph=oneref`."""

import json

import numpy as np
import pytest
import torch
from official_folders import write_folder
from PIL import Image
from posed_rooms import room_depth, write_room

from distill3r_core.cache.header import CacheHeader
from distill3r_core.cache.store import CachedSample, TeacherCache
from distill3r_core.teachers.pairwise import graph
from distill3r_core.teachers.pairwise import teacher as pairwise

SETTINGS = ("--set", "teacher.graph=oneref", "--set", "teacher.align_steps=2")


@pytest.fixture
def run(cli_inprocess, tmp_path, golden_dir, monkeypatch):
    """Run a command beside the weights of two small teachers."""
    for name in ("mast3r", "da3-small", "vggt"):
        write_folder(tmp_path / "weights" / name, golden_dir, name)
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))

    def run(*arguments) -> tuple[int, dict, str]:
        status, output, error = cli_inprocess(*arguments, "--json", cwd=tmp_path)
        return status, json.loads(output), error

    return run


@pytest.fixture
def photos(tmp_path, data_dir):
    """Two photographs, low and small: pixels cost time."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((data_dir / "castle").glob("*.JPG"))[:2]:
        with Image.open(path) as image:
            low = image.convert("RGB").resize((144, 108)).crop((0, 40, 144, 67))
            low.save(folder / path.name, quality=95)
    return folder


@pytest.fixture
def graphs(monkeypatch):
    """Every graph of pairs that a teacher asks for."""
    asked = []

    def pairs_of(views, kind):
        asked.append(kind)
        return graph.pairs_of(views, kind)

    monkeypatch.setattr(pairwise, "pairs_of", pairs_of)
    return asked


def test_infer_gives_them_to_the_model_and_to_the_one_it_is_compared_with(run, photos, graphs):
    status, found, error = run(
        "infer", "photos", "-m", "mast3r", "--compare", "da3-small", "--no-refine", *SETTINGS,
        "--set", "teacher.precision=float32", "-o", "out",
    )  # fmt: skip
    assert status in (0, 5), error
    assert graphs == ["oneref"]
    own = found["result"]["teacher_settings"]
    assert (own["graph"], own["align_steps"], own["precision"]) == ("oneref", 2, "float32")
    assert found["settings"]["teacher"]["graph"] == "oneref"
    # Other settings of the teacher are another result.
    status, _, error = run("infer", "photos", "-m", "mast3r", "--no-refine", "-o", "out")
    assert status == 2, error


def test_bench_counts_and_runs_the_pairs_of_the_graph(run, graphs):
    def flop(*settings) -> float:
        status, found, error = run(
            "bench", "--preset", "tiny", "--views", "3", "--size", "28x126", "--budget", "1",
            "--compare", "mast3r", *settings,
        )  # fmt: skip
        assert status == 0, error
        shown = found["result"]["header"]["teacher_settings"]["mast3r"]
        assert shown == ({"graph": "oneref"} if settings else {})
        return {row["model"]: row for row in found["result"]["rows"]}["mast3r"]["tflop"]

    # Two pairs in both orders, and all six of them; encoders and what is shared keep it below 3/2.
    assert 1.3 < flop() / flop("--set", "teacher.graph=oneref") < 1.5


@pytest.fixture
def cached(run, tmp_path):
    """The first sample that a teacher with such settings stores of a room: six views."""
    write_room(tmp_path / "room", views=9)
    split = ("--stride", "1", "--val-frames", "last:3")
    assert run("manifest", "room", "--views", "6", *split)[0] == 0

    def cached(teacher, *settings) -> tuple[CachedSample, CacheHeader]:
        chosen = [part for setting in settings for part in ("--set", f"teacher.{setting}")]
        folder = "-".join((teacher, *settings))
        status, _, error = run(
            "cache", "--teacher", teacher, "--size", "28x42", "--threshold", "0", "-o", folder,
            *chosen,
        )  # fmt: skip
        assert status == 0, error
        cache = TeacherCache(tmp_path / folder)
        name, _ = cache.names()
        return cache.read(name), cache.header

    return cached


def test_da3_is_handed_the_cameras_of_the_manifest(cached, tmp_path):
    sample, header = cached("da3-small", "cameras=given")
    assert header.teacher_settings["cameras"] == "given"
    assert header.metric
    _, poses = room_depth(0, 9, 69.0)
    wanted = (torch.linalg.inv(poses[0].double()) @ poses[:6].double())[:, :3]
    torch.testing.assert_close(sample.targets.global_from_local.double(), wanted, atol=2e-3, rtol=0)
    predicted, header = cached("da3-small", "cameras=predicted")
    assert not header.metric
    assert not torch.allclose(
        predicted.targets.global_from_local.double(), wanted, atol=0.05, rtol=0
    )


def test_given_cameras_of_no_known_unit_make_points_of_none(run, tmp_path):
    write_room(tmp_path / "room", views=9)
    _, poses = room_depth(0, 9, 69.0)
    opengl = poses.double().numpy() @ np.diag([1.0, -1, -1, 1])
    images = sorted((tmp_path / "room/rgb").iterdir())
    (tmp_path / "capture").mkdir()
    (tmp_path / "room/rgb").rename(tmp_path / "capture/images")
    frames = [
        {"file_path": f"images/{image.name}", "transform_matrix": pose.tolist()}
        for image, pose in zip(images, opengl, strict=True)
    ]
    camera = {"fl_x": 80.0, "fl_y": 80.0, "cx": 49.0, "cy": 35.0, "w": 98, "h": 70}
    (tmp_path / "capture/transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    split = ("--stride", "1", "--val-frames", "last:3")
    assert run("manifest", "capture", "--views", "6", *split)[0] == 0
    status, _, error = run(
        "cache", "--teacher", "da3-small", "--size", "28x42", "--threshold", "0",
        "--set", "teacher.cameras=given",
    )  # fmt: skip
    assert status == 0, error
    assert not TeacherCache(tmp_path / "caches/teacher").header.metric


def test_a_sample_whose_cameras_determine_no_scale_is_left_out_by_name(run, tmp_path):
    write_room(tmp_path / "room", views=6)
    split = ("--stride", "1", "--val-frames", "last:2")
    assert run("manifest", "room", "--views", "4", *split)[0] == 0
    status, found, _ = run(
        "cache", "--teacher", "da3-small", "--size", "28x42", "--threshold", "0",
        "--set", "teacher.cameras=given",
    )  # fmt: skip
    assert status == 5
    (failed,) = found["failed"]
    assert "do not determine the scale" in json.dumps(failed)
    assert len(TeacherCache(tmp_path / "caches/teacher").names()) == 1


def test_vggt_gives_its_own_point_map_to_the_cache(cached):
    moved, _ = cached("vggt")
    own, header = cached("vggt", "point_map=own")
    assert header.teacher_settings["point_map"] == "own"
    np.testing.assert_allclose(own.targets.points_local, moved.targets.points_local, rtol=0.01)
    apart = own.targets.global_from_local - moved.targets.global_from_local
    assert float(apart[1:].abs().max()) > 0.05


@pytest.mark.parametrize(
    ("command", "key", "says"),
    [
        (("infer", "photos", "-m", "mast3r"), "graph=ring", "ring"),
        (("infer", "photos", "-m", "da3-small"), "graph=oneref", "no such setting of da3-small"),
        (("infer", "photos", "-m", "mast3r"), "pairs=true", "no such setting of mast3r"),
        (("eval", "da3-small", "--data", "photos"), "align_steps=2", "no such setting"),
        (("eval", "mast3r", "--data", "photos"), "align_steps=-1", "align_steps"),
        (("eval", "--predict", "constant", "--data", "photos"), "graph=oneref", "is for teachers"),
        (("bench", "--preset", "tiny"), "graph=oneref", "is for teachers"),
        (("bench", "--preset", "tiny", "--compare", "fast3r"), "precision=float32", "as published"),
        (("bench", "--compare", "student-reference"), "graph=oneref", "is for teachers"),
        (("bench", "--preset", "tiny", "--compare", "mast3r"), "graph=swin-0", "swin-0"),
    ],
)
def test_a_setting_that_no_model_has_and_a_wrong_value_are_refused(
    run, photos, command, key, says, tmp_path
):
    status, found, _ = run(*command, "--set", f"teacher.{key}")
    assert status == 2
    assert says in json.dumps(found["error"])
    assert not (tmp_path / "results").exists()
