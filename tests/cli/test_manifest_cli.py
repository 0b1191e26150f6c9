"""`distill3r manifest` from the command line: what it prints, writes and exits with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trees import photos, rgbd_scene, save_picture


def test_help_names_every_option_and_two_examples(cli_inprocess, tmp_path) -> None:
    status, out, _ = cli_inprocess("manifest", "--help-all", cwd=tmp_path)
    assert status == 0
    for option in (
        *("--output", "-o", "--layout", "--views", "--stride", "--samples-per-scene"),
        *("--sample-frac", "--val-scenes", "--val-frames", "--images-only", "--resize-max"),
        *("--dry-run", "--overwrite", "--seed", "--config", "--set", "--print-config", "--json"),
    ):
        assert option in out
    assert out.count("distill3r manifest") >= 3


def test_photos_become_the_default_data(cli, tmp_path) -> None:
    photos(tmp_path / "photos", 5)
    done = cli("manifest", "photos", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "photos" in done.stdout
    assert "data/manifest.csv" in done.stdout
    assert "next: distill3r cache --resume" in done.stderr
    assert (tmp_path / "data" / "manifest.csv").is_file()


def test_json_is_one_object_with_stable_keys(cli_inprocess, tmp_path) -> None:
    rgbd_scene(tmp_path / "rooms" / "a", 8)
    (tmp_path / "rooms" / "a" / "pose" / "000007.txt").unlink()
    status, out, _ = cli_inprocess("manifest", "rooms", "--views", "3", "--json", cwd=tmp_path)
    assert status == 5
    told = json.loads(out)
    assert told["command"] == "manifest"
    assert set(told["result"]) == {
        *("dry_run", "datasets", "scenes", "images", "samples", "rejected")
    }
    assert told["result"]["rejected"] == 1
    assert told["failed"][0]["item"].endswith("000007.png")
    assert told["failed"][0]["reason"] == "pose is missing: no 000007.txt"
    assert told["files"] == ["data/manifest.csv", "data/rejected.csv"]
    assert told["error"] is None
    assert told["settings"]["views"] == 3


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 3, "no such file or folder"),
        ([], 2, "ROOTS: missing"),
        (["photos", "--views", "1"], 2, "--views"),
        (["photos", "--stride", "zero"], 2, "--stride"),
        (["photos", "--val-frames", "last"], 2, "--val-frames"),
        (["photos", "--val-scenes", "2"], 2, "--val-scenes"),
        (["photos", "--layout", "7scene"], 2, "did you mean '7scenes'"),
        (["photos", "--layout", "pattern"], 2, "does not take"),
        (["photos/IMG_8.png"], 2, "is a file"),
        (["photos", "--set", "veiws=3"], 2, "veiws"),
        (["photos", "--color"], 2, "--color"),
        (["empty"], 1, "no pictures under"),
        (["broken"], 1, "empty file"),
        (["photos", "-o", "file/data"], 2, "cannot write to"),
    ],
)
def test_mistakes_are_named(cli_inprocess, tmp_path, arguments, status, message) -> None:
    photos(tmp_path / "photos", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"")
    (tmp_path / "file").write_text("")
    found, out, err = cli_inprocess("manifest", *arguments, cwd=tmp_path)
    assert found == status, err
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_bad_inputs_are_named_and_the_run_goes_on(cli_inprocess, data_dir, tmp_path) -> None:
    status, out, err = cli_inprocess("manifest", data_dir / "bad", cwd=tmp_path)
    assert status == 5
    assert "left out" in err
    assert "truncated.jpg: damaged: image file is truncated" in err
    assert "data/rejected.csv" in out
    assert (tmp_path / "data" / "rejected.csv").read_text().startswith("path,reason\n")


def test_other_settings_are_a_conflict(cli_inprocess, tmp_path) -> None:
    photos(tmp_path / "photos", 6)
    assert cli_inprocess("manifest", "photos", cwd=tmp_path)[0] == 0
    status, _, err = cli_inprocess("manifest", "photos", "--stride", "2", cwd=tmp_path)
    assert status == 2
    assert "stride: None → 2" in err
    assert "--overwrite" in err
    arguments = ("manifest", "photos", "--stride", "2", "--overwrite")
    assert cli_inprocess(*arguments, cwd=tmp_path)[0] == 0


def test_running_again_says_that_nothing_changed(cli_inprocess, tmp_path) -> None:
    photos(tmp_path / "photos", 6)
    assert cli_inprocess("manifest", "photos", cwd=tmp_path)[0] == 0
    status, _, err = cli_inprocess("manifest", "photos", cwd=tmp_path)
    assert status == 0
    assert "nothing has changed" in err


def test_settings_come_from_a_file_and_options_win(cli_inprocess, tmp_path) -> None:
    photos(tmp_path / "photos", 6)
    (tmp_path / "distill3r.yaml").write_text(
        "manifest: {views: 4, resize_max: 20, roots: [photos], samples_per_scene: 7}\n"
    )
    status, out, _ = cli_inprocess("manifest", "--views", "3", "--print-config", cwd=tmp_path)
    assert status == 0
    assert "views: 3  # default: 20\n" in out
    assert "resize_max: 20  # default: 960\n" in out
    assert "seed: 0\n" in out
    assert not (tmp_path / "data").exists()
    assert cli_inprocess("manifest", cwd=tmp_path)[0] == 0


def test_the_current_folder_may_be_the_root(cli_inprocess, tmp_path) -> None:
    photos(tmp_path / "tour", 5)
    for _ in range(2):  # the second run must not take the first one's pictures for data
        status, out, _ = cli_inprocess("manifest", ".", "--json", cwd=tmp_path / "tour")
        assert status == 0
        assert json.loads(out)["result"]["images"] == 5


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "distill3r_cli", "manifest", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def stop_midway(process: subprocess.Popen[bytes], out: Path, how: int, frames: int) -> int:
    """Send a signal once so many frames were made; gives the exit status."""
    index = out / ".frames.jsonl"
    with process:
        while process.poll() is None:
            if index.is_file() and index.read_bytes().count(b"\n") > frames:
                process.send_signal(how)
                break
            time.sleep(0.002)
        try:
            return process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_a_stopped_run_goes_on_where_it_was(tmp_path, cli_inprocess, how, status) -> None:
    for number in range(30):
        save_picture(tmp_path / "photos" / f"{number}.png", number, (300, 400))
    arguments = ("photos", "--resize-max", "390", "--views", "3", "--samples-per-scene", "20")
    out = tmp_path / "data"
    assert stop_midway(start(tmp_path, *arguments), out, how, frames=4) == status
    assert not (out / "manifest.csv").exists()
    index = (out / ".frames.jsonl").read_text().splitlines()
    made = {json.loads(line)["key"] for line in index if line.endswith("}")}
    assert 4 <= len(made) < 30
    # A kill may leave a picture half written, under a name of its own.
    whole = [path for path in (out / "images").rglob("*.png") if ".partial" not in path.name]
    times = {path: path.stat().st_mtime_ns for path in whole}
    found, printed, _ = cli_inprocess("manifest", *arguments, "--json", cwd=tmp_path)
    assert found == 0
    assert json.loads(printed)["result"]["images"] == 30
    assert not list(out.rglob(".*.partial*"))
    kept = [path for path in times if path.stat().st_mtime_ns == times[path]]
    assert len(kept) >= len(made)
    resumed = (out / "manifest.csv").read_text()
    shutil.rmtree(out)
    assert cli_inprocess("manifest", *arguments, cwd=tmp_path)[0] == 0
    assert (out / "manifest.csv").read_text() == resumed


@pytest.mark.slow
def test_a_large_tree_is_listed_cut_and_made_again_quickly(tmp_path, cli_inprocess, drill) -> None:
    scenes = drill(1000)
    for number in range(scenes):
        photos(tmp_path / "tree" / f"scene{number}", 30)
        if number % 100 == 0:
            (tmp_path / "tree" / f"scene{number}" / "IMG_9.png").write_bytes(b"")
    status, out, _ = cli_inprocess("manifest", "tree", "--json", cwd=tmp_path)
    assert status == 5
    result = json.loads(out)["result"]
    assert result["scenes"] == scenes
    assert result["rejected"] == len(range(0, scenes, 100))
    assert 0.05 * scenes < result["samples"]["val"] / 2 < 0.16 * scenes
    start_ = time.monotonic()
    assert cli_inprocess("manifest", "tree", cwd=tmp_path)[0] == 5
    assert time.monotonic() - start_ < 0.01 * 30 * scenes  # nothing was decoded again


def test_a_folder_that_is_not_there_comes_before_a_manifest_that_is_in_the_way(
    cli_inprocess, tmp_path
) -> None:
    photos(tmp_path / "photos", 3)
    assert cli_inprocess("manifest", "photos", cwd=tmp_path)[0] == 0
    status, _, err = cli_inprocess("manifest", "photos", "nowhere", "--views", "2", cwd=tmp_path)
    assert status == 3
    assert f"no such file or folder: {tmp_path / 'nowhere'}" in err
    status, _, err = cli_inprocess("manifest", "photos", "--views", "2", cwd=tmp_path)
    assert status == 2
