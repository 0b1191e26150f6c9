"""`distill3r infer` as a user meets it."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from infer_project import make_photos, run_infer
from PIL import Image
from plyfile import PlyData


def test_a_folder_of_photos_becomes_a_cloud_from_the_newest_run(cli, project):
    make_photos(project / "photos", "v10.png", "v2.png")
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


def test_colors_are_the_pixels_that_the_network_saw(cli_inprocess, project):
    folder = make_photos(project / "photos", "a.png", size=(42, 28))
    assert run_infer(cli_inprocess, folder, "--conf", "0", "-o", "out", cwd=project)[0] == 0
    vertices = PlyData.read(project / "out" / "scene.ply")["vertex"]
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)
    expected = np.asarray(Image.open(folder / "a.png")).reshape(-1, 3)
    np.testing.assert_array_equal(colors, expected)


def test_the_same_again_is_done_and_anything_else_takes_the_next_number(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png", "b.png")
    results = project / "results" / "infer"

    def made(*arguments):
        status, report, _ = run_infer(cli_inprocess, photos, *arguments, cwd=project)
        assert status == 0
        return Path(report["result"]["folder"]).name

    assert made() == "photos-tiny-001"
    before = (results / "photos-tiny-001" / "run.json").stat().st_mtime_ns
    assert made("--ply") == "photos-tiny-001"
    _, _, err = run_infer(cli_inprocess, photos, cwd=project, json_too=False)
    assert "nothing was done" in err
    assert (results / "photos-tiny-001" / "run.json").stat().st_mtime_ns == before
    assert made("--conf", "20") == "photos-tiny-001-2"
    Image.linear_gradient("L").resize((64, 48)).save(photos / "b.png")
    assert made() == "photos-tiny-001-3"


def test_what_earlier_versions_knew_is_all_that_tells_a_usual_result_from_others(
    cli_inprocess, project
):
    photos = make_photos(project / "photos", "a.png")
    # Earlier versions did not refine poses: a result that is refined where it helps is another.
    run_infer(cli_inprocess, photos, "--no-refine", "-o", "out", cwd=project)
    identity = json.loads((project / "out" / "run.json").read_text())["identity"]
    assert set(identity["settings"]) == {
        "format", "conf", "edges", "voxel", "max_points", "cloud", "poses", "fps", "max_views",
        "precision", "seed",
    }  # fmt: skip


def test_what_shapes_a_cloud_makes_no_other_result_of_the_local_head_alone(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png")
    local = (photos, "--head", "local", "-o", "out")
    for more in ((), ("--conf", "50", "--voxel", "0.1")):
        status, _, err = run_infer(cli_inprocess, *local, *more, cwd=project, json_too=False)
        assert status == 0
    assert "nothing was done" in err


def test_a_file_without_extension_is_read_when_it_is_named(cli_inprocess, project, data_dir):
    status, report, _ = run_infer(cli_inprocess, data_dir / "bad" / "no_extension", cwd=project)
    assert status == 0 and report["result"]["views"] == 1


def test_portrait_and_landscape_stand_upright_in_one_scene(cli_inprocess, project, data_dir):
    status, report, _ = run_infer(
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
    status, report, _ = run_infer(
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
    status, report, _ = run_infer(cli_inprocess, clip, "--fps", "0.5", cwd=project)
    assert status == 0 and report["result"]["views"] == 9
    assert run_infer(cli_inprocess, clip, "--max-views", "3", "-o", "out", cwd=project)[0] == 0
    cameras = json.loads((project / "out" / "cameras.json").read_text())["cameras"]
    assert [camera["frame"] for camera in cameras] == [0, 8, 16]


def test_each_folder_is_a_scene_of_its_own_and_a_bad_one_is_named(cli_inprocess, project):
    make_photos(project / "many" / "one", "a.png")
    make_photos(project / "many" / "two", "a.png", "b.png")
    (project / "many" / "worse").mkdir()
    (project / "many" / "worse" / "a.jpg").write_bytes(b"nothing")
    status, report, _ = run_infer(cli_inprocess, "many", "--each", cwd=project)
    assert status == 5
    assert [scene["views"] for scene in report["result"]["scenes"]] == [1, 2]
    assert [failure["item"] for failure in report["failed"]] == ["worse"]
    older = project / "results" / "infer" / "one-tiny-001" / "run.json"
    record = json.loads(older.read_text())
    del record["result"]["behind"], record["checksum"]  # which an earlier version did not write
    older.write_text(json.dumps(record))
    _, _, err = run_infer(cli_inprocess, "many", "--each", cwd=project, json_too=False)
    for name in ("one", "two"):  # what is to be said of a scene is said of each by name
        assert f"{name}: results/infer/{name}-tiny-001 holds this result already" in err
    assert [line for line in err.splitlines() if line.startswith("scene ")] == [
        "scene 1 of 3: one", "scene 2 of 3: two", "scene 3 of 3: worse",
    ]  # fmt: skip
    for name in ("one", "two"):
        assert (project / "results" / "infer" / f"{name}-tiny-001" / "scene.ply").is_file()


def test_every_option_that_shapes_a_result_works_with_names_of_any_letters(cli_inprocess, project):
    pytest.importorskip("pycolmap")
    photos = make_photos(project / "fotos", "Küche 1.png", "Küche, 2.png")
    every = "ply,glb,colmap,nerfstudio,npz,depth,html"
    status, report, err = run_infer(
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


def test_the_local_head_alone_gives_depth_and_says_that_it_knows_no_poses(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png", "b.png")
    made = (photos, "--head", "local", "-o", "out")
    status, out, err = run_infer(cli_inprocess, *made, cwd=project, json_too=False)
    assert status == 0, err
    assert "none (--head local)" in out and "heads 2/2 maps" in err
    assert {path.name for path in (project / "out").iterdir()} == {
        "depth", "cameras.json", "preview.png", "run.json",
    }  # fmt: skip
    result = run_infer(cli_inprocess, *made, cwd=project)[1]["result"]
    assert result["head"] == "local" and "points" not in result and "agreement" not in result
    status, _, err = cli_inprocess("view", "out", cwd=project)
    assert status == 3 and "has no poses" in err and "local head" in err


def test_the_global_head_alone_makes_every_file_with_poses_by_pnp(cli_inprocess, project):
    pytest.importorskip("pycolmap")
    photos = make_photos(project / "photos", "a.png", "b.png")
    every = "ply,glb,colmap,nerfstudio,npz,depth,html"
    made = (photos, "--head", "global", "--format", every, "-o", "out")
    status, out, err = run_infer(cli_inprocess, *made, cwd=project, json_too=False)
    assert status == 0, err
    assert "global points" in out and "PnP's (--head global)" in out and "heads 2/2 maps" in err
    with np.load(project / "out/predictions.npz") as npz:
        assert {key.split("/")[1] for key in npz.files if key.startswith("000/")} == {
            "image", "points_global", "confidence_global", "depth", "intrinsics", "world_from_cam",
                "valid_mask",
        }  # fmt: skip
        assert "points_local" in json.loads(str(npz["about"]))["left_out"]
    record = json.loads((project / "out/run.json").read_text())
    assert (
        record["identity"]["settings"]["cloud"] == "global" and record["result"]["poses"] == "pnp"
    )


def test_pnp_runs_beside_the_similarity_only_where_it_is_asked_for(cli_inprocess, project):
    pytest.importorskip("pycolmap")
    photos = make_photos(project / "photos", "a.png")
    for option, said in (((), "left out"), (("--pnp",), "run")):
        status, report, err = run_infer(cli_inprocess, photos, *option, cwd=project)
        assert status == 0, err
        assert report["result"]["pnp"] == said
    assert len(list((project / "results/infer").iterdir())) == 2, "PnP makes another result"


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
    photos = make_photos(project / "photos", "a.png")
    made = (photos, "--format", formats, "-o", "out")
    _, _, err = run_infer(cli_inprocess, *made, cwd=project, json_too=False)
    assert f"next: {says}" in err


def test_a_result_says_what_it_was_made_of(cli_inprocess, project):
    make_photos(project / "photos", "a.png", "b.png")
    made = ("photos", "--format", "npz", "-o", "out")
    assert run_infer(cli_inprocess, *made, cwd=project)[0] == 0
    record = json.loads((project / "out/run.json").read_text())
    assert record["inputs"] == ["photos/a.png", "photos/b.png"]
    assert record["model"].endswith("checkpoints/best/model.safetensors") and record["version"]
    with np.load(project / "out/predictions.npz") as npz:
        assert "world_from_local" in json.loads(str(npz["about"]))["points_local"]


def test_a_cloud_repeats_with_its_seed(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png", "b.png")
    for name in ("one", "two"):
        arguments = (photos, "--max-points", "100", "--seed", "3", "-o", name)
        assert run_infer(cli_inprocess, *arguments, cwd=project)[0] == 0
    assert (project / "one/scene.ply").read_bytes() == (project / "two/scene.ply").read_bytes()


def test_each_step_of_the_cleaning_says_from_and_to(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png", "b.png")
    arguments = ("--conf", "25", "--edges", "0.5", "--voxel", "0.01", "--max-points", "50")
    _, report, _ = run_infer(cli_inprocess, photos, *arguments, cwd=project)
    steps = report["result"]["cleaning"]
    assert [step["step"].split()[0] for step in steps] == [
        "finite", "confidence", "depth", "voxels", "at",
    ]  # fmt: skip
    assert steps[0]["from"] == 2 * 28 * 42
    assert all(a["to"] == b["from"] for a, b in pairwise(steps))
    assert steps[1]["to"] == steps[1]["from"] * 0.75
    assert report["result"]["points"] == steps[-1]["to"] <= 50


def test_photos_are_read_in_place(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png")
    photos.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in photos.iterdir()}
    assert run_infer(cli_inprocess, "photos", "--format", "colmap", cwd=project)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in photos.iterdir()} == before
    photos.chmod(0o755)


def test_the_folder_we_stand_in_gives_its_name(cli_inprocess, project):
    photos = make_photos(project / "desk", "a.png")
    model = project / "runs" / "tiny-001"
    _, report, _ = run_infer(cli_inprocess, ".", "-m", model, cwd=photos)
    assert report["result"]["folder"] == "results/infer/desk-tiny-001"


def test_view_says_where_it_serves_and_ends_when_it_is_told_to(cli_inprocess, project):
    pytest.importorskip("viser")
    make_photos(project / "photos", "a.png")
    assert run_infer(cli_inprocess, "photos", "-o", "out", cwd=project)[0] == 0
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


def test_an_unknown_reliability_is_said_with_its_reason(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png", "b.png")
    wall = Path(__file__).parents[1] / "extending/toy_teacher.py"  # exact, and never calibrated
    made = (photos, "-m", "wall", "--plugin", wall, "--format", "html,ply", "-o", "out")
    status, out, err = run_infer(cli_inprocess, *made, cwd=project, json_too=False)
    assert status == 0
    said = "the model has no calibration on held-out samples"
    assert "unknown" in out
    assert f"the reliability of this reconstruction is unknown: {said}" in err
    assert "warning" not in err
    record = json.loads((project / "out/run.json").read_text())["reliability"]
    assert (record["level"], record["reasons"]) == ("unknown", [said])
    assert said in (project / "out/scene.html").read_text()


def test_an_unreliable_reconstruction_says_so_everywhere_and_fails_where_strict(
    cli_inprocess, project
):
    photos = make_photos(project / "photos", "a.png", "b.png")
    made = (photos, "--format", "html,ply", "-o", "out")
    status, out, err = run_infer(cli_inprocess, *made, cwd=project, json_too=False)
    assert status == 0
    assert "unreliable" in out and "warning: this reconstruction is unreliable: " in err
    record = json.loads((project / "out/run.json").read_text())
    assert record["reliability"]["level"] == "unreliable" and record["reliability"]["reasons"]
    assert record["reliability"]["reasons"][0] in (project / "out/scene.html").read_text()
    _, _, err = run_infer(cli_inprocess, *made, "--strict", cwd=project, json_too=False)
    assert "failed: photos: unreliable: " in err and "left out" not in err
    status, report, _ = run_infer(cli_inprocess, *made, "--strict", cwd=project)
    assert status == 5, "the same result: it is judged again, not made again"
    assert report["failed"][0]["reason"].startswith("unreliable: ")
    assert report["result"]["reliability"] == record["reliability"]
