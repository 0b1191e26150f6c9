"""Photographs through the commands with the networks of official files, small and random."""

import json

import pytest
from official_folders import write_folder
from PIL import Image
from plyfile import PlyData

from distill3r_core.cache.store import TeacherCache
from distill3r_core.teachers.record import PREDICTED

AUTOMATIC = "da3-small"  # what `--teacher auto` stands for where there is no depth


@pytest.fixture
def photos(data_dir, tmp_path):
    """Three photographs, made small: pixels cost time."""
    (tmp_path / "photos").mkdir()
    for path in sorted((data_dir / "castle").glob("*.JPG"))[:3]:
        with Image.open(path) as image:
            image.resize((144, 108)).save(tmp_path / "photos" / path.name, quality=95)
    return tmp_path


def home(folder, golden_dir, *names) -> dict[str, str]:
    for name in names:
        write_folder(folder / "weights" / name, golden_dir, name)
    return {"DISTILL3R_HOME": str(folder / "weights"), "HF_HOME": str(folder / "no-hub")}


def test_the_route_with_the_automatic_teacher(cli, photos, golden_dir):
    env = home(photos, golden_dir, AUTOMATIC)

    def run(*arguments) -> dict:
        done = cli(*arguments, "--json", cwd=photos, env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run("manifest", "photos", "--views", "3")
    run("cache", "--resume", "--size", "28x42", "--threshold", "0")
    header = TeacherCache(photos / "caches/teacher").header
    assert (header.teacher, header.license) == (AUTOMATIC, "Apache-2.0")
    run("train", "--preset", "tiny", "--max-steps", "2", "--set", "data.size=28x42")
    placed = run("infer", "photos", "-m", AUTOMATIC, "--ply", "-o", "model")
    points = PlyData.read(photos / "model" / "scene.ply")["vertex"]
    assert len(points) > 1000
    assert placed["failed"] == []
    run("infer", "photos", "--ply", "-o", "student")


@pytest.mark.parametrize("name", ["vggt", "pi3", "mast3r"])
def test_every_teacher_is_a_model_that_can_be_run(
    cli_inprocess, photos, golden_dir, name, monkeypatch
):
    for key, value in home(photos, golden_dir, name).items():
        monkeypatch.setenv(key, value)
    last = sorted((photos / "photos").iterdir())[-1]
    last.unlink()  # two views of a pairwise network are placed in closed form
    status, output, error = cli_inprocess(
        "infer", "photos", "-m", name, "--ply", "--json", cwd=photos
    )
    assert status in (0, 5), error
    assert json.loads(output)["error"] is None


def test_without_weights_the_way_to_them_is_named(cli_inprocess, photos, golden_dir, monkeypatch):
    for key, value in home(photos, golden_dir).items():
        monkeypatch.setenv(key, value)
    assert cli_inprocess("manifest", "photos", "--views", "3", cwd=photos)[0] == 0
    for command in (("cache", "--resume"), ("infer", "photos", "-m", AUTOMATIC)):
        status, _, error = cli_inprocess(*command, cwd=photos)
        assert status == 3
        assert f"distill3r models download {AUTOMATIC}" in error
        for way in ("models download fast3r", "--teacher synthetic", "distill3r demo"):
            assert way in error
        assert ("--weights DIR" in error) == (command[0] == "cache")
    assert not (photos / "caches").exists()


def test_without_a_student_photographs_are_shown_the_way_that_needs_none(
    cli_inprocess, photos, golden_dir, monkeypatch
):
    for key, value in home(photos, golden_dir).items():
        monkeypatch.setenv(key, value)
    status, _, error = cli_inprocess("infer", "photos", "--ply", cwd=photos)
    assert status == 3
    assert f"distill3r models download {AUTOMATIC}" in error
    assert f"-m {AUTOMATIC}" in error and "distill3r train" in error
    home(photos, golden_dir, AUTOMATIC)
    status, _, error = cli_inprocess("infer", "photos", "--ply", cwd=photos)
    assert status == 3
    assert f"infer ... -m {AUTOMATIC} (its weights are here)" in error
    assert cli_inprocess("infer", "photos", "--ply", "-m", AUTOMATIC, cwd=photos)[0] == 0


def test_a_name_that_is_nearly_a_models_is_answered_with_it(cli_inprocess, photos):
    status, _, error = cli_inprocess("infer", "photos", "-m", "da3-smal", cwd=photos)
    assert status == 3
    assert f"did you mean {AUTOMATIC}?" in error
    status, _, error = cli_inprocess("infer", "photos", "-m", "runs/none", cwd=photos)
    assert status == 3
    assert "did you mean" not in error


def test_two_models_side_by_side(cli_inprocess, photos, golden_dir, monkeypatch):
    for key, value in home(photos, golden_dir, AUTOMATIC, "vggt").items():
        monkeypatch.setenv(key, value)

    def run(*arguments, status=0) -> dict:
        done, output, error = cli_inprocess(
            "infer", "photos", "-m", AUTOMATIC, *arguments, "--json", cwd=photos
        )
        assert done == status, error
        return json.loads(output)

    compared = run("--compare", "vggt")
    found = compared["result"]["comparison"]
    assert found["model"] == "vggt" and found["facts"][1] == "license: CC BY-NC 4.0"
    assert len(found["views"]) == 3 and found["pixels"] > 1000
    assert 0 < found["residual_share"] < 10 and 0 <= found["pose_degrees"] <= 180
    folder = photos / compared["result"]["folder"]
    assert {path.name for path in folder.iterdir()} >= {"compare.png", "compare.html", "scene.ply"}
    with Image.open(folder / "compare.png") as picture:
        assert picture.width > 800
    apart = f"points {100 * found['residual_share']:.1f} % of the depth apart"
    assert apart in (folder / "compare.html").read_text()
    again = run("--compare", "vggt")  # done already: the record says the same
    assert again["result"]["comparison"] == found
    assert run("--compare", "vggt", "--head", "local", status=2)["error"]
    assert "models download mast3r" in run("--compare", "mast3r", status=3)["error"]["hint"]


def test_a_model_is_named_by_folder_or_file_too(cli_inprocess, photos, golden_dir, monkeypatch):
    for key, value in home(photos, golden_dir).items():
        monkeypatch.setenv(key, value)
    folder = write_folder(photos / "hub-folder", golden_dir, "pi3")
    file = folder / "model.safetensors"

    def run(*arguments, status=0) -> dict:
        done, output, error = cli_inprocess(*arguments, "--json", cwd=photos)
        assert done == status, error
        return json.loads(output)

    found = run("infer", "photos", "-m", "hub-folder", "--compare", str(file))
    assert found["result"]["model"] == "pi3"
    assert found["result"]["comparison"]["residual_share"] == pytest.approx(0, abs=1e-6)
    bench = run(
        "bench", "--preset", "tiny", "--views", "2", "--size", "28x42", "--budget", "60",
        "--compare", "hub-folder", "-o", "bench",
    )  # fmt: skip
    rows = {row["model"]: row for row in bench["result"]["rows"]}
    assert rows["hub-folder"]["status"] == "measured" and rows["hub-folder"]["tflop"] > 0
    # What is missing is said before anything else is looked at, such as the input.
    for arguments in (
        ("infer", "nowhere", "-m", "vggt"),
        ("infer", "nowhere", "-m", "hub-folder", "--compare", "vggt"),
        ("eval", "vggt", "--data", "nowhere"),
        ("bench", "--preset", "tiny", "--compare", "vggt"),
    ):
        error = run(*arguments, status=3)["error"]
        assert "distill3r models download vggt" in error["hint"], arguments
    file.write_bytes(b"cut")
    error = run("infer", "photos", "-m", "hub-folder", status=3)["error"]
    assert "not a whole safetensors file" in error["message"]


def test_the_header_says_how_confidences_were_brought_to_the_common_range(
    cli_inprocess, photos, golden_dir, monkeypatch
):
    for key, value in home(photos, golden_dir, "pi3", AUTOMATIC).items():
        monkeypatch.setenv(key, value)

    def run(*arguments) -> str:
        status, output, error = cli_inprocess(*arguments, cwd=photos)
        assert status == 0, error
        return output

    run("manifest", "photos", "--views", "2")
    for name in ("pi3", AUTOMATIC):
        run("cache", "--teacher", name, "--size", "28x42", "--threshold", "0", "-o", name)
    mapping = "1 + p / (1 - p) of its probability p"
    assert TeacherCache(photos / "pi3").header.confidence == mapping
    assert json.loads(run("cache", "info", "pi3", "--json"))["result"]["confidence"] == mapping
    assert mapping in run("cache", "info", "pi3")
    # The other network predicts confidences of that range itself.
    assert (
        json.loads(run("cache", "info", AUTOMATIC, "--json"))["result"]["confidence"] == PREDICTED
    )
    assert PREDICTED in run("cache", "info", AUTOMATIC)


def test_a_cache_of_a_version_that_did_not_say_so_is_still_resumed(
    cli_inprocess, photos, golden_dir, monkeypatch
):
    for key, value in home(photos, golden_dir, "pi3").items():
        monkeypatch.setenv(key, value)
    assert cli_inprocess("manifest", "photos", "--views", "2", cwd=photos)[0] == 0
    command = ("cache", "--resume", "--teacher", "pi3", "--size", "28x42", "--threshold", "0")
    assert cli_inprocess(*command, cwd=photos)[0] == 0
    folder = photos / "caches/teacher"
    values = json.loads((folder / "cache.json").read_text())
    del values["confidence"], values["checksum"]  # the earliest ones had no checksum either
    (folder / "cache.json").write_text(json.dumps(values))
    status, _, error = cli_inprocess(*command, cwd=photos)
    assert status == 0, error
    # Nobody knows of the records that are there how they were made.
    assert TeacherCache(folder).header.confidence == ""
    assert "not recorded" in cli_inprocess("cache", "info", str(folder), cwd=photos)[1]
