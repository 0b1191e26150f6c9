"""`distill3r infer` as a user meets it."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from distill3r_core.io.fit import Fit
from distill3r_core.models import StudentMetadata, build_student, save_student
from distill3r_core.training import checkpoints

ACCEPTED = 22  # files of data/bad that are pictures


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    student = build_student("tiny")
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    metadata = StudentMetadata(
        preset="tiny", spec=student.spec, size=(28, 42), fit=Fit(size=(28, 42)).as_plain(),
        teacher="depth", licences=("of the teacher",),
    )  # fmt: skip
    save_student(path, student, metadata)
    return path


@pytest.fixture
def project(tmp_path, weights) -> Path:
    """A folder with a run."""
    place = tmp_path / "runs" / "tiny-001" / "checkpoints" / "best"
    place.mkdir(parents=True)
    shutil.copy(weights, place)
    return tmp_path


def _photos(folder: Path, *names: str, size=(64, 48)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def _run(cli_inprocess, *arguments, cwd, json_too=True):
    status, out, err = cli_inprocess(
        "infer", *arguments, *(["--json"] if json_too else []), cwd=cwd
    )
    return status, (json.loads(out) if json_too and out else out), err


def test_a_folder_of_photos_becomes_a_cloud_from_the_newest_run(cli, project):
    _photos(project / "photos", "v10.png", "v2.png")
    done = cli("infer", "photos", "--ply", cwd=project)
    assert done.returncode == 0, done.stderr
    folder = project / "results" / "infer" / "photos-tiny-001"
    assert {path.name for path in folder.iterdir()} == {
        "scene.ply", "run.json", "preview.png", "cameras.json",
    }  # fmt: skip
    vertices = PlyData.read(folder / "scene.ply")["vertex"]
    assert len(vertices) == 2 * 28 * 42 - int(2 * 28 * 42 * 0.1)
    cameras = json.loads((folder / "cameras.json").read_text())["cameras"]
    assert [camera["name"] for camera in cameras] == ["v2", "v10"]
    assert "scene.ply" in done.stdout and "Traceback" not in done.stderr


def test_a_student_that_cannot_be_compiled_runs_as_it_is_and_says_why(cli, project):
    _photos(project / "photos", "a.png", "b.png")
    broken = {"CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(project / "inductor")}
    done = cli("infer", "photos", "--ply", "--compile", cwd=project, env=broken)
    assert done.returncode == 0, done.stderr
    assert "not compiled, running as it is" in done.stderr
    assert (project / "results/infer/photos-tiny-001/scene.ply").is_file()


def test_colors_are_the_pixels_that_the_network_saw(cli_inprocess, project):
    folder = _photos(project / "photos", "a.png", size=(42, 28))
    assert _run(cli_inprocess, folder, "--conf", "0", "-o", "out", cwd=project)[0] == 0
    vertices = PlyData.read(project / "out" / "scene.ply")["vertex"]
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)
    expected = np.asarray(Image.open(folder / "a.png")).reshape(-1, 3)
    np.testing.assert_array_equal(colors, expected)


def test_without_a_run_the_two_ways_to_get_one_are_named(cli, tmp_path):
    _photos(tmp_path / "photos", "a.png")
    done = cli("infer", "photos", "--ply", cwd=tmp_path)
    assert done.returncode == 3
    assert "distill3r train" in done.stderr and "distill3r demo" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["missing"], 3),
        (["photos", "-m", "missing"], 3),
        (["photos", "--device", "cuda:7"], 3),
        (["photos", "--format", "ply,usd"], 2),
        (["photos", "--size", "30x42"], 2),
        (["photos", "--size", "big"], 2),
        (["photos", "--format", ""], 2),
        (["photos", "--fps", "0"], 2),
        (["photos", "--fps", "inf"], 2),
        (["photos", "--voxel", "inf"], 2),
        (["photos", "--conf", "100"], 2),
        (["photos", "--cloud", "both"], 2),
        (["photos", "--scale-from", "a:b"], 2),
        (["photos", "--scale-from", "a:c=1"], 2),
        ([], 2),
    ],
)
def test_what_cannot_be_done_is_said_with_its_status(cli_inprocess, project, arguments, status):
    _photos(project / "photos", "a.png", "b.png")
    found, _, err = _run(cli_inprocess, *arguments, cwd=project, json_too=False)
    assert found == status, err
    assert err.startswith("error:") or "\nerror:" in err
    assert "fault in distill3r" not in err and "Traceback" not in err
    assert not (project / "results").exists()


def test_the_same_again_is_done_and_anything_else_takes_the_next_number(cli_inprocess, project):
    photos = _photos(project / "photos", "a.png", "b.png")
    results = project / "results" / "infer"

    def made(*arguments):
        status, report, _ = _run(cli_inprocess, photos, *arguments, cwd=project)
        assert status == 0
        return Path(report["result"]["folder"]).name

    assert made() == "photos-tiny-001"
    before = (results / "photos-tiny-001" / "run.json").stat().st_mtime_ns
    assert made("--ply") == "photos-tiny-001"
    _, _, err = _run(cli_inprocess, photos, cwd=project, json_too=False)
    assert "nothing was done" in err
    assert (results / "photos-tiny-001" / "run.json").stat().st_mtime_ns == before
    assert made("--conf", "20") == "photos-tiny-001-2"
    Image.new("RGB", (64, 48)).save(photos / "b.png")
    assert made() == "photos-tiny-001-3"


def test_a_folder_that_holds_another_result_is_a_conflict_unless_overwritten(
    cli_inprocess, project
):
    photos = _photos(project / "photos", "a.png")
    assert _run(cli_inprocess, photos, "-o", "out", cwd=project)[0] == 0
    status, report, err = _run(cli_inprocess, photos, "-o", "out", "--conf", "30", cwd=project)
    assert status == 2 and "conf" in report["error"]["message"] and "--overwrite" in err
    more = ("-o", "out", "--conf", "30", "--overwrite")
    assert _run(cli_inprocess, photos, *more, cwd=project)[0] == 0


def test_every_file_of_bad_is_used_or_named(cli_inprocess, project, data_dir):
    status, report, err = _run(cli_inprocess, data_dir / "bad", cwd=project)
    assert status == 5
    assert report["result"]["views"] == ACCEPTED
    named = {Path(failure["item"]).name for failure in report["failed"]}
    assert named == {
        "truncated.jpg", "truncated_header.jpg", "truncated.png", "bad_crc.png", "zero_byte.png",
        "text_named.jpg", "bomb_header.png", "bomb_header_max.png", "float_nan.tiff",
        "one_by_one.png", "thin_13x200.png", "extreme_aspect_2560x4.png",
        "truncated.mp4", "text_named.mp4", "zero_byte.mp4",
    }  # fmt: skip
    assert all(failure["reason"] for failure in report["failed"])
    assert "animated: the first of 3 frames" in err


@pytest.mark.parametrize("command", ["infer", "eval"])
def test_weights_with_a_flipped_bit_are_named_and_refused(
    cli_inprocess, tmp_path, weights, command
):
    photos = _photos(tmp_path / "photos", "a.png", "b.png")
    for step in (1, 2):
        checkpoints.save(
            tmp_path / "runs/tiny-001", step=step, optimizer={}, state={},
            save_model=lambda path: shutil.copy(weights, path),
        )  # fmt: skip
    model = tmp_path / "runs/tiny-001/checkpoints/last/model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1000] ^= 1
    model.write_bytes(content)
    inputs = [photos] if command == "infer" else ["--data", photos]
    status, _, err = cli_inprocess(command, *inputs, cwd=tmp_path)
    assert status == 3
    assert "runs/tiny-001/checkpoints/last/model.safetensors is damaged" in err
    assert "runs/tiny-001/checkpoints/step-000001" in err
    assert not (tmp_path / "results").exists()


def test_where_every_input_is_rejected_the_run_has_failed(cli_inprocess, project, data_dir):
    bad = [data_dir / "bad" / name for name in ("truncated.jpg", "zero_byte.png", "one_by_one.png")]
    status, report, _ = _run(cli_inprocess, *bad, cwd=project)
    assert status == 1
    assert all(path.name in report["error"]["message"] for path in bad)
    assert not (project / "results").exists()


@pytest.mark.parametrize("name", ["truncated.mp4", "text_named.mp4", "zero_byte.mp4"])
def test_a_broken_video_is_rejected(cli_inprocess, project, data_dir, name):
    pytest.importorskip("av")
    status, report, _ = _run(cli_inprocess, data_dir / "bad" / name, cwd=project)
    assert status == 1 and name in report["error"]["message"]


@pytest.mark.parametrize("name", ["truncated.mp4", "text_named.mp4", "zero_byte.mp4"])
@pytest.mark.parametrize("named", [False, True])
def test_a_broken_video_beside_pictures_is_left_out_with_its_reason(
    cli_inprocess, project, data_dir, name, named
):
    pytest.importorskip("av")
    mixed = _photos(project / "mixed", "a.png", "b.png")
    shutil.copy(data_dir / "bad" / name, mixed)
    inputs = sorted(mixed.iterdir()) if named else [mixed]
    status, report, _ = _run(cli_inprocess, *inputs, cwd=project)
    assert status == 5 and report["result"]["views"] == 2
    (failure,) = report["failed"]
    assert failure["item"] == str(mixed / name)
    assert failure["reason"].startswith("not a video, or damaged")


def test_a_whole_video_beside_pictures_is_to_be_named_alone(cli_inprocess, project, data_dir):
    pytest.importorskip("av")
    mixed = _photos(project / "mixed", "a.png", "b.png")
    shutil.copy(data_dir / "video" / "kitchen.mp4", mixed)
    status, report, _ = _run(cli_inprocess, mixed, cwd=project)
    assert status == 5
    assert "name it alone" in report["failed"][0]["reason"]


def test_a_file_without_extension_is_read_when_it_is_named(cli_inprocess, project, data_dir):
    status, report, _ = _run(cli_inprocess, data_dir / "bad" / "no_extension", cwd=project)
    assert status == 0 and report["result"]["views"] == 1


def test_portrait_and_landscape_stand_upright_in_one_scene(cli_inprocess, project, data_dir):
    status, report, _ = _run(
        cli_inprocess, data_dir / "tree", "--format", "colmap,npz", "-o", "tree", cwd=project
    )
    assert status == 0 and report["result"]["views"] == 7
    cameras = json.loads((project / "tree" / "cameras.json").read_text())["cameras"]
    sizes = {camera["name"]: tuple(camera["size"]) for camera in cameras}
    assert sizes.pop("IMG_1047") == (768, 1024)
    assert set(sizes.values()) == {(1024, 768)}
    data = np.load(project / "tree" / "predictions.npz")
    assert data["000/points_global"].shape == (42, 28, 3)
    assert data["006/points_global"].shape == (28, 42, 3)
    for name, (rows, columns) in sizes.items():
        with Image.open(project / "tree" / "images" / f"{name}.jpg") as picture:
            assert picture.size == (columns, rows) and picture.getexif().get(0x0112, 1) == 1
            upright = np.asarray(picture.resize((28, 42)), float)
        index = list(data["names"]).index(name)
        assert np.abs(upright - data[f"{index:03d}/image"]).mean() < 12


def test_a_video_gives_its_frames_in_order_and_pictures_of_them(cli_inprocess, project, data_dir):
    pytest.importorskip("av")
    status, report, _ = _run(
        cli_inprocess, data_dir / "video", "--format", "nerfstudio", "-o", "out", cwd=project
    )
    assert status == 0 and report["result"]["views"] == 17
    frames = json.loads((project / "out" / "transforms.json").read_text())["frames"]
    names = [frame["file_path"] for frame in frames]
    assert names == [f"images/kitchen_{index:06d}.jpg" for index in range(17)]
    for name in names:
        with Image.open(project / "out" / name) as picture:
            assert picture.size == (640, 480)


def test_a_slower_rate_and_fewer_views_thin_a_video_evenly(cli_inprocess, project, data_dir):
    pytest.importorskip("av")
    clip = data_dir / "video" / "kitchen.mp4"
    status, report, _ = _run(cli_inprocess, clip, "--fps", "0.5", cwd=project)
    assert status == 0 and report["result"]["views"] == 9
    assert _run(cli_inprocess, clip, "--max-views", "3", "-o", "out", cwd=project)[0] == 0
    cameras = json.loads((project / "out" / "cameras.json").read_text())["cameras"]
    assert [camera["frame"] for camera in cameras] == [0, 8, 16]


def test_each_folder_is_a_scene_of_its_own_and_a_bad_one_is_named(cli_inprocess, project):
    _photos(project / "many" / "one", "a.png")
    _photos(project / "many" / "two", "a.png", "b.png")
    (project / "many" / "worse").mkdir()
    (project / "many" / "worse" / "a.jpg").write_bytes(b"nothing")
    status, report, _ = _run(cli_inprocess, "many", "--each", cwd=project)
    assert status == 5
    assert [scene["views"] for scene in report["result"]["scenes"]] == [1, 2]
    assert [failure["item"] for failure in report["failed"]] == ["worse"]
    for name in ("one", "two"):
        assert (project / "results" / "infer" / f"{name}-tiny-001" / "scene.ply").is_file()


def test_where_no_folder_can_be_used_every_reason_is_said(cli_inprocess, project):
    for name in ("one", "two"):
        (project / "many" / name).mkdir(parents=True)
        (project / "many" / name / "a.jpg").write_bytes(b"nothing")
    status, _, err = _run(cli_inprocess, "many", "--each", cwd=project, json_too=False)
    assert status == 1
    assert "many/one/a.jpg" in err and "many/two/a.jpg" in err


def test_a_scene_that_cannot_be_done_as_asked_leaves_the_others_done(cli_inprocess, project):
    _photos(project / "many" / "one", "a.png", "b.png")
    _photos(project / "many" / "two", "c.png", "d.png")
    status, report, _ = _run(cli_inprocess, "many", "--each", "--scale-from", "a:b=1", cwd=project)
    assert status == 5
    assert [scene["scene"] for scene in report["result"]["scenes"]] == ["one"]
    assert report["failed"][0]["item"] == "two" and "knows 0 of 2" in report["failed"][0]["reason"]


def test_every_option_that_shapes_a_result_works_with_names_of_any_letters(cli_inprocess, project):
    pytest.importorskip("pycolmap")
    photos = _photos(project / "fotos", "Küche 1.png", "Küche, 2.png")
    every = "ply,glb,colmap,nerfstudio,npz,depth,html"
    status, report, err = _run(
        cli_inprocess, photos, "--format", every, "--scale-from", "Küche 1.png:Küche, 2.png=2.5",
        "--size", "42x56", "--precision", "bfloat16", "--cloud", "global", "--poses", "pnp",
        "--conf", "0", "-o", "out", cwd=project,
    )  # fmt: skip
    assert status == 0, err
    result = report["result"]
    assert (result["scale"], result["cloud"], result["precision"]) == ("m", "global", "bfloat16")
    assert result["cleaning"][0]["from"] == 2 * 42 * 56
    header = " ".join(PlyData.read(project / "out/scene.ply").comments)
    assert "2.5 m between K\\xfcche 1.png" in header  # PLY is ASCII
    cameras = json.loads((project / "out/cameras.json").read_text())["cameras"]
    centers = [np.array(camera["world_from_cam"])[:3, 3] for camera in cameras]
    assert np.linalg.norm(centers[1] - centers[0]) == pytest.approx(2.5, rel=1e-5)


def test_memory_that_ends_after_the_pass_is_said_as_such(cli_inprocess, project, monkeypatch):
    def crowded(scene, settings):
        raise MemoryError

    monkeypatch.setattr("distill3r_core.stages.infer.reconstruction._clean", crowded)
    photos = _photos(project / "photos", "a.png")
    status, _, err = _run(cli_inprocess, photos, cwd=project, json_too=False)
    assert status == 4
    assert "--max-points" in err and "fault in distill3r" not in err


def test_view_shows_no_cloud_that_an_overwritten_result_left(cli_inprocess, project):
    pytest.importorskip("viser")
    _photos(project / "photos", "a.png")
    _photos(project / "other", "b.png")
    assert _run(cli_inprocess, "photos", "--ply", "-o", "out", cwd=project)[0] == 0
    made = ("other", "--format", "glb", "-o", "out", "--overwrite")
    _, _, err = _run(cli_inprocess, *made, cwd=project, json_too=False)
    assert "distill3r view out" not in err
    assert (project / "out" / "scene.ply").is_file()
    status, _, err = cli_inprocess("view", "out", cwd=project)
    assert status == 3 and "no scene.ply" in err


def test_a_cloud_without_points_is_warned_of(cli_inprocess, project):
    photos = _photos(project / "photos", "a.png", "b.png")
    _, _, err = _run(cli_inprocess, photos, "--edges", "1e-9", cwd=project, json_too=False)
    assert "no point is left" in err


@pytest.mark.parametrize(
    ("formats", "says"),
    [
        ("ply", "`distill3r view out`"),
        ("npz,depth", "look at out/preview.png"),
        ("ply,html,colmap", "`distill3r view out` · open out/scene.html in a browser · `python"),
        ("nerfstudio", "`distill3r view out` · `ns-train splatfacto --data out`"),
    ],
)
def test_the_next_command_fits_what_was_written(cli_inprocess, project, formats, says):
    photos = _photos(project / "photos", "a.png")
    made = (photos, "--format", formats, "-o", "out")
    _, _, err = _run(cli_inprocess, *made, cwd=project, json_too=False)
    assert f"next: {says}" in err


def test_a_result_says_what_it_was_made_of(cli_inprocess, project):
    _photos(project / "photos", "a.png", "b.png")
    made = ("photos", "--format", "npz", "-o", "out")
    assert _run(cli_inprocess, *made, cwd=project)[0] == 0
    record = json.loads((project / "out/run.json").read_text())
    assert record["inputs"] == ["photos/a.png", "photos/b.png"]
    assert record["model"].endswith("checkpoints/best/model.safetensors") and record["version"]
    with np.load(project / "out/predictions.npz") as npz:
        assert "world_from_local" in json.loads(str(npz["about"]))["points_local"]


def test_more_pictures_than_codes_are_refused_before_they_are_read(cli_inprocess, project):
    photos = _photos(project / "photos", "0.png")
    for number in range(1, 1001):
        (photos / f"{number}.png").write_bytes(b"never read")
    status, _, err = _run(cli_inprocess, photos, cwd=project, json_too=False)
    assert status == 2 and "1001 views" in err


def test_names_that_are_no_text_and_what_is_no_file_leave_the_others_alone(cli, project):
    photos = _photos(project / os.fsdecode(b"photos\xe9"), "a.png", os.fsdecode(b"caf\xe9.png"))
    os.mkfifo(photos / "pipe.png")
    every = "ply,glb,colmap,nerfstudio,npz,depth,html"
    done = cli("infer", photos, "--format", every, "-o", "out", "--json", cwd=project)
    assert done.returncode == 5, done.stderr
    failed = json.loads(done.stdout)["failed"]
    assert [Path(failure["item"]).name for failure in failed] == ["pipe.png"]
    cameras = json.loads((project / "out/cameras.json").read_text(encoding="utf-8"))["cameras"]
    assert sorted(camera["name"] for camera in cameras) == ["a", "caf_"]


def test_weights_without_numbers_are_said_to_be_so(cli_inprocess, project):
    student = build_student("tiny")
    student.local_head.out.weight.data.fill_(float("nan"))
    metadata = StudentMetadata(
        preset="tiny", spec=student.spec, size=(28, 42), fit=Fit(size=(28, 42)).as_plain()
    )
    save_student(project / "broken.safetensors", student, metadata)
    photos = _photos(project / "photos", "a.png")
    made = (photos, "-m", "broken.safetensors")
    status, _, err = _run(cli_inprocess, *made, cwd=project, json_too=False)
    assert status == 1 and "its weights are damaged" in err


def test_a_reader_of_stderr_that_leaves_takes_nothing_with_it(project):
    _photos(project / "photos", "a.png")
    line = f"{sys.executable} -m distill3r_cli infer photos -o out 2>&1 >/dev/null | head -c 1"
    subprocess.run(["sh", "-c", line], cwd=project, check=True, capture_output=True, timeout=120)
    assert (project / "out" / "run.json").is_file()


def test_a_cloud_repeats_with_its_seed(cli_inprocess, project):
    photos = _photos(project / "photos", "a.png", "b.png")
    for name in ("one", "two"):
        arguments = (photos, "--max-points", "100", "--seed", "3", "-o", name)
        assert _run(cli_inprocess, *arguments, cwd=project)[0] == 0
    assert (project / "one/scene.ply").read_bytes() == (project / "two/scene.ply").read_bytes()


def test_each_step_of_the_cleaning_says_from_and_to(cli_inprocess, project):
    photos = _photos(project / "photos", "a.png", "b.png")
    arguments = ("--conf", "25", "--edges", "0.5", "--voxel", "0.01", "--max-points", "50")
    _, report, _ = _run(cli_inprocess, photos, *arguments, cwd=project)
    steps = report["result"]["cleaning"]
    assert [step["step"].split()[0] for step in steps] == [
        "finite", "confidence", "depth", "voxels", "at",
    ]  # fmt: skip
    assert steps[0]["from"] == 2 * 28 * 42
    assert all(a["to"] == b["from"] for a, b in pairwise(steps))
    assert steps[1]["to"] == steps[1]["from"] * 0.75
    assert report["result"]["points"] == steps[-1]["to"] <= 50


def test_photos_are_read_in_place(cli_inprocess, project):
    photos = _photos(project / "photos", "a.png")
    photos.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in photos.iterdir()}
    assert _run(cli_inprocess, "photos", "--format", "colmap", cwd=project)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in photos.iterdir()} == before
    photos.chmod(0o755)


def test_the_folder_we_stand_in_gives_its_name(cli_inprocess, project):
    photos = _photos(project / "desk", "a.png")
    model = project / "runs" / "tiny-001"
    _, report, _ = _run(cli_inprocess, ".", "-m", model, cwd=photos)
    assert report["result"]["folder"] == "results/infer/desk-tiny-001"


def test_an_interrupted_run_is_taken_up_by_the_same_command(cli_inprocess, project, monkeypatch):
    _photos(project / "photos", "a.png")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("distill3r_core.stages.infer.run.reconstruct_views", interrupted)
        assert _run(cli_inprocess, "photos", cwd=project, json_too=False)[0] == 130
    status, report, _ = _run(cli_inprocess, "photos", cwd=project)
    assert status == 0 and report["result"]["folder"] == "results/infer/photos-tiny-001"


def test_view_says_where_it_serves_and_ends_when_it_is_told_to(cli_inprocess, project):
    pytest.importorskip("viser")
    _photos(project / "photos", "a.png")
    assert _run(cli_inprocess, "photos", "-o", "out", cwd=project)[0] == 0
    command = [sys.executable, "-m", "distill3r_cli", "view", "out", "--port", "8790"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert "http://127.0.0.1:" in serving.stdout.readline()
        serving.terminate()
        assert serving.wait(timeout=60) == 130
    with subprocess.Popen(
        [*command, "--json"], cwd=project, stdout=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stdout is not None
        first = serving.stdout.readline()
        lines = [first, *iter(serving.stdout.readline, "}\n"), "}"]
        serving.terminate()
        assert serving.wait(timeout=60) == 130
        assert json.loads("".join(lines))["result"]["cameras"] == 1
        assert serving.stdout.read() == ""


def test_view_of_nothing_is_missing(cli_inprocess, project):
    status, _, err = cli_inprocess("view", "nothing", cwd=project)
    assert status == 3 and "nothing" in err


def test_scenes_of_one_name_are_refused_before_any_work(cli_inprocess, project):
    for root in ("first", "second"):
        _photos(project / root / "room", "1.png", "2.png")
    status, _, err = cli_inprocess("infer", "--each", "first", "second", "-o", "out", cwd=project)
    assert status == 2
    assert "first/room and second/room" in err
    assert not (project / "out").exists()


def test_a_size_that_is_none_is_named_with_how_to_write_it(cli_inprocess, project):
    _photos(project / "photos", "a.png")
    status, _, err = cli_inprocess("infer", "photos", "--size", "28y42", cwd=project)
    assert status == 2
    assert "cannot read the size '28y42'" in err
