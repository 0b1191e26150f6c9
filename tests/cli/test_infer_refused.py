"""What `infer` refuses, leaves out or warns of, and what it leaves behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from infer_project import make_photos, run_infer
from saved_runs import copy_run
from small_caches import write_cache

from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import StudentMetadata, build_student, save_student
from distill3r_core.training import checkpoints

ACCEPTED = 22  # files of data/bad that are pictures


def test_a_student_that_cannot_be_compiled_runs_as_it_is_and_says_why(cli, project):
    make_photos(project / "photos", "a.png", "b.png")
    broken = {"CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(project / "inductor")}
    done = cli("infer", "photos", "--ply", "--compile", cwd=project, env=broken)
    assert done.returncode == 0, done.stderr
    assert "not compiled, running as it is" in done.stderr
    assert (project / "results/infer/photos-tiny-001/scene.ply").is_file()


def test_without_a_run_the_two_ways_to_get_one_are_named(cli, tmp_path):
    make_photos(tmp_path / "photos", "a.png")
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
        (["photos", "--each", "--scale-from", "a:b"], 2),
        (["photos", "--scale-from", "nothing.txt"], 3),
        (["photos", "--scale-from", "a:c=1"], 2),
        (["photos", "--head", "none"], 2),
        (["photos", "--head", "local", "--format", "depth,ply"], 2),
        (["photos", "--head", "local", "--ply"], 2),
        (["photos", "--head", "local", "--cloud", "global"], 2),
        (["photos", "--head", "local", "--poses", "pnp"], 2),
        (["photos", "--head", "local", "--scale-from", "a:b=1"], 2),
        (["photos", "--head", "local", "--pnp"], 2),
        (["photos", "--head", "global", "--cloud", "aligned"], 2),
        (["photos", "--head", "global", "--poses", "similarity"], 2),
        ([], 2),
    ],
)
def test_what_cannot_be_done_is_said_with_its_status(cli_inprocess, project, arguments, status):
    make_photos(project / "photos", "a.png", "b.png")
    found, _, err = run_infer(cli_inprocess, *arguments, cwd=project, json_too=False)
    assert found == status, err
    assert err.startswith("error:") or "\nerror:" in err
    assert "fault in distill3r" not in err and "Traceback" not in err
    assert not (project / "results").exists()


def test_a_folder_that_holds_another_result_is_a_conflict_unless_overwritten(
    cli_inprocess, project
):
    photos = make_photos(project / "photos", "a.png")
    assert run_infer(cli_inprocess, photos, "-o", "out", cwd=project)[0] == 0
    status, report, err = run_infer(cli_inprocess, photos, "-o", "out", "--conf", "30", cwd=project)
    assert status == 2 and "conf" in report["error"]["message"] and "--overwrite" in err
    more = ("-o", "out", "--conf", "30", "--overwrite")
    assert run_infer(cli_inprocess, photos, *more, cwd=project)[0] == 0


def test_every_file_of_bad_is_used_or_named(cli_inprocess, project, data_dir):
    status, report, err = run_infer(cli_inprocess, data_dir / "bad", cwd=project)
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
    photos = make_photos(tmp_path / "photos", "a.png", "b.png")
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


@pytest.mark.parametrize(
    "command",
    [
        ("infer", "photos"),
        ("eval", "--data", "photos"),
        ("convert", "runs/tiny-001", "out.safetensors"),
        ("bench", "-m", "runs/tiny-001", "--views", "2"),
        ("train", "--from", "runs/tiny-001", "--preset", "tiny", "-o", "runs/other"),
    ],
    ids=lambda command: command[0],
)
def test_a_checkpoint_that_has_lost_its_state_is_named_and_refused(
    cli_inprocess, tmp_path, weights, command
):
    make_photos(tmp_path / "photos", "a.png", "b.png")
    if command[0] == "train":
        write_cache(tmp_path / "caches/teacher")
    for step in (1, 2):
        copy_run(tmp_path / "runs/tiny-001", weights, step=step)
    (tmp_path / "runs/tiny-001/checkpoints/step-000002/state.json").unlink()
    status, _, err = (
        cli_inprocess(*command, "--device", "cpu", cwd=tmp_path)
        if (command[0] != "convert")
        else cli_inprocess(*command, cwd=tmp_path)
    )
    assert status == 3, err
    assert "runs/tiny-001/checkpoints/best/state.json is missing" in err
    assert "runs/tiny-001/checkpoints/step-000001" in err
    assert not any((tmp_path / name).exists() for name in ("results", "out.safetensors"))


def test_where_every_input_is_rejected_the_run_has_failed(cli_inprocess, project, data_dir):
    bad = [data_dir / "bad" / name for name in ("truncated.jpg", "zero_byte.png", "one_by_one.png")]
    status, report, _ = run_infer(cli_inprocess, *bad, cwd=project)
    assert status == 1
    assert all(path.name in report["error"]["message"] for path in bad)
    assert not (project / "results").exists()


@pytest.mark.parametrize("name", ["truncated.mp4", "text_named.mp4", "zero_byte.mp4"])
def test_a_broken_video_is_rejected(cli_inprocess, project, data_dir, name):
    pytest.importorskip("av")
    status, report, _ = run_infer(cli_inprocess, data_dir / "bad" / name, cwd=project)
    assert status == 1 and name in report["error"]["message"]


@pytest.mark.parametrize("name", ["truncated.mp4", "text_named.mp4", "zero_byte.mp4"])
@pytest.mark.parametrize("named", [False, True])
def test_a_broken_video_beside_pictures_is_left_out_with_its_reason(
    cli_inprocess, project, data_dir, name, named
):
    pytest.importorskip("av")
    mixed = make_photos(project / "mixed", "a.png", "b.png")
    shutil.copy(data_dir / "bad" / name, mixed)
    inputs = sorted(mixed.iterdir()) if named else [mixed]
    status, report, _ = run_infer(cli_inprocess, *inputs, cwd=project)
    assert status == 5 and report["result"]["views"] == 2
    (failure,) = report["failed"]
    assert failure["item"] == str(mixed / name)
    assert failure["reason"].startswith("not a video, or damaged")


def test_a_whole_video_beside_pictures_is_to_be_named_alone(cli_inprocess, project, data_dir):
    pytest.importorskip("av")
    mixed = make_photos(project / "mixed", "a.png", "b.png")
    shutil.copy(data_dir / "video" / "kitchen.mp4", mixed)
    status, report, _ = run_infer(cli_inprocess, mixed, cwd=project)
    assert status == 5
    assert "name it alone" in report["failed"][0]["reason"]


def test_where_no_folder_can_be_used_every_reason_is_said(cli_inprocess, project):
    for name in ("one", "two"):
        (project / "many" / name).mkdir(parents=True)
        (project / "many" / name / "a.jpg").write_bytes(b"nothing")
    status, _, err = run_infer(cli_inprocess, "many", "--each", cwd=project, json_too=False)
    assert status == 1
    assert "many/one/a.jpg" in err and "many/two/a.jpg" in err


def test_a_scene_that_cannot_be_done_as_asked_leaves_the_others_done(cli_inprocess, project):
    make_photos(project / "many" / "one", "a.png", "b.png")
    make_photos(project / "many" / "two", "c.png", "d.png")
    status, report, _ = run_infer(
        cli_inprocess, "many", "--each", "--scale-from", "a:b=1", cwd=project
    )
    assert status == 5
    assert [scene["scene"] for scene in report["result"]["scenes"]] == ["one"]
    assert report["failed"][0]["item"] == "two" and "knows 0 of 2" in report["failed"][0]["reason"]


def test_memory_that_ends_after_the_pass_is_said_as_such(cli_inprocess, project, monkeypatch):
    def crowded(scene, settings):
        raise MemoryError

    monkeypatch.setattr("distill3r_core.stages.infer.infer_scenes.clean_cloud", crowded)
    photos = make_photos(project / "photos", "a.png")
    status, _, err = run_infer(cli_inprocess, photos, cwd=project, json_too=False)
    assert status == 4
    assert "--max-points" in err and "fault in distill3r" not in err


def test_view_shows_no_cloud_that_an_overwritten_result_left(cli_inprocess, project):
    pytest.importorskip("viser")
    make_photos(project / "photos", "a.png")
    make_photos(project / "other", "b.png")
    assert run_infer(cli_inprocess, "photos", "--ply", "-o", "out", cwd=project)[0] == 0
    made = ("other", "--format", "glb", "-o", "out", "--overwrite")
    _, _, err = run_infer(cli_inprocess, *made, cwd=project, json_too=False)
    assert "distill3r view out" not in err
    assert (project / "out" / "scene.ply").is_file()
    status, _, err = cli_inprocess("view", "out", cwd=project)
    assert status == 3 and "no scene.ply" in err


def test_a_cloud_without_points_is_warned_of(cli_inprocess, project):
    photos = make_photos(project / "photos", "a.png", "b.png")
    _, _, err = run_infer(cli_inprocess, photos, "--edges", "1e-9", cwd=project, json_too=False)
    assert "no point is left" in err


def test_more_pictures_than_codes_are_refused_before_they_are_read(cli_inprocess, project):
    photos = make_photos(project / "photos", "0.png")
    for number in range(1, 1001):
        (photos / f"{number}.png").write_bytes(b"never read")
    status, _, err = run_infer(cli_inprocess, photos, cwd=project, json_too=False)
    assert status == 2 and "1001 views" in err


def test_names_that_are_no_text_and_what_is_no_file_leave_the_others_alone(cli, project):
    photos = make_photos(project / os.fsdecode(b"photos\xe9"), "a.png", os.fsdecode(b"caf\xe9.png"))
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
        preset="tiny", spec=student.spec, size=(28, 42), fit=ImageFit(size=(28, 42)).as_plain()
    )
    save_student(project / "broken.safetensors", student, metadata)
    photos = make_photos(project / "photos", "a.png")
    made = (photos, "-m", "broken.safetensors")
    status, _, err = run_infer(cli_inprocess, *made, cwd=project, json_too=False)
    assert status == 1 and "its weights are damaged" in err


def test_a_reader_of_stderr_that_leaves_takes_nothing_with_it(project):
    make_photos(project / "photos", "a.png")
    line = f"{sys.executable} -m distill3r_cli infer photos -o out 2>&1 >/dev/null | head -c 1"
    subprocess.run(["sh", "-c", line], cwd=project, check=True, capture_output=True, timeout=120)
    assert (project / "out" / "run.json").is_file()


def test_an_interrupted_run_is_taken_up_by_the_same_command(cli_inprocess, project, monkeypatch):
    make_photos(project / "photos", "a.png")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("distill3r_core.stages.infer.infer_scenes.reconstruct_views", interrupted)
        assert run_infer(cli_inprocess, "photos", cwd=project, json_too=False)[0] == 130
    status, report, _ = run_infer(cli_inprocess, "photos", cwd=project)
    assert status == 0 and report["result"]["folder"] == "results/infer/photos-tiny-001"


def test_view_of_nothing_is_missing(cli_inprocess, project):
    status, _, err = cli_inprocess("view", "nothing", cwd=project)
    assert status == 3 and "nothing" in err


def test_scenes_of_one_name_are_refused_before_any_work(cli_inprocess, project):
    for root in ("first", "second"):
        make_photos(project / root / "room", "1.png", "2.png")
    status, _, err = cli_inprocess("infer", "--each", "first", "second", "-o", "out", cwd=project)
    assert status == 2
    assert "first/room and second/room" in err
    assert not (project / "out").exists()


def test_a_size_that_is_none_is_named_with_how_to_write_it(cli_inprocess, project):
    make_photos(project / "photos", "a.png")
    status, _, err = cli_inprocess("infer", "photos", "--size", "28y42", cwd=project)
    assert status == 2
    assert "cannot read the size '28y42'" in err


@pytest.mark.parametrize("more", [(), ("--max-views", "1002")])
def test_more_views_than_a_student_takes_are_refused_before_one_is_read(
    cli_inprocess, project, more
):
    photos = project / "photos"
    photos.mkdir()
    for number in range(1003):
        (photos / f"{number}.png").write_bytes(b"this cannot be read")
    status, _, err = cli_inprocess("infer", "photos", *more, cwd=project)
    assert status == 2
    views = more[1] if more else "1003"
    assert f"{views} views: tiny-001 takes at most 1000" in err
    assert "--max-views 1000 takes 1000 of them, evenly spread" in err
    assert "cannot be read" not in err
    assert not (project / "results").exists()
