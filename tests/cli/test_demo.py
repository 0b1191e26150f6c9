"""`distill3r demo`: the whole route, on rendered rooms."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from distill3r_core import config
from distill3r_core.errors import ConflictError
from distill3r_core.models.families import preset_spec
from distill3r_core.report import Failure, Report, Silent
from distill3r_core.stages.demo import DemoSettings
from distill3r_core.stages.demo import demo_steps as demo_plan
from distill3r_core.stages.demo.demo_steps import steps_of
from distill3r_core.stages.demo.parts import render_rooms

SHORT = ("--set", "rooms=1", "--set", "views=12", "--set", "every=4", "--set", "steps=1")
STEPS = ["manifest", "cache", "train", "eval", "infer", "bench"]


@pytest.mark.parametrize("step", STEPS)
def test_the_command_of_a_step_spells_its_settings(cli_inprocess, tmp_path, step):
    settings = DemoSettings(seed=3, device="cpu", steps=7)
    found = {step.name: step for step in steps_of(settings)}[step]
    words = shlex.split(found.command)
    assert words[:2] == ["distill3r", step]
    status, out, err = cli_inprocess(*words[1:], "--print-config", "--json", cwd=tmp_path)
    assert status == 0, err
    wanted = config.as_plain(found.settings)
    if wanted.get("model") == {}:  # printed whole: what the preset makes of no changes
        wanted["model"] = preset_spec(wanted["preset"]).as_plain()
    assert json.loads(out) == wanted


def test_the_demo_passes_and_leaves_all_that_it_names(cli, tmp_path):
    done = cli("demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    result = report["result"]
    assert result["passed"] is True
    for name in ("acc", "comp"):
        assert result[name] <= 0.4 * result["baseline"][name]
    assert result["loss"]["last"] < result["loss"]["first"]
    for step in STEPS:
        assert f"$ distill3r {step} " in done.stderr
    files = {path.rsplit("/", 1)[-1]: tmp_path / path for path in report["files"]}
    cloud = trimesh.load(files["scene.ply"])
    assert len(cloud.vertices) > 10_000
    with Image.open(files["preview.png"]) as picture:
        assert np.asarray(picture).std() > 20
    record = json.loads((tmp_path / "demo/infer/run.json").read_text())
    assert record["reliability"]["level"] == "good"


def test_a_demo_that_does_not_pass_exits_with_1_whatever_was_left_out(
    cli_inprocess, tmp_path, monkeypatch
):
    report = Report(settings={}, result={"passed": False}, failed=[Failure("a view", "too dark")])
    monkeypatch.setattr("distill3r_core.stages.demo.demo", lambda *_, **__: report)
    status, out, _ = cli_inprocess("demo", "--json", cwd=tmp_path)
    assert status == 1
    assert json.loads(out)["result"]["passed"] is False


@pytest.mark.slow
def test_the_printed_commands_run_one_after_another_alone(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = DemoSettings(rooms=1, views=12, every=4, steps=2)
    render_rooms(settings, overwrite=False, progress=Silent())
    for step in steps_of(settings):
        done = cli(*shlex.split(step.command)[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{step.command}\n{done.stderr}"
    assert (settings.output / "infer" / "scene.ply").is_file()


def test_a_demo_that_learns_nothing_fails_and_a_rerun_finds_all_done(
    cli_inprocess, tmp_path, monkeypatch
):
    monkeypatch.setattr(demo_plan, "BENCH_VIEWS", "2")
    status, out, err = cli_inprocess("demo", *SHORT, cwd=tmp_path)
    assert status == 1, err
    assert out.rstrip().splitlines()[-1].startswith("FAILED: ")
    assert "constant depth" in out
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert made

    status, out, err = cli_inprocess("demo", *SHORT, cwd=tmp_path)
    assert status == 1  # finding a failure does not make it a success
    assert out.rstrip().splitlines()[-1].startswith("FAILED: ")
    assert "demo was finished before: nothing was done" in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == made

    status, _, err = cli_inprocess("demo", *SHORT, "--seed", "1", cwd=tmp_path)
    assert status == 2
    assert "seed: 0 → 1" in err
    assert "--overwrite" in err


def test_rendering_goes_on_after_an_interruption(tmp_path):
    class Impatient(Silent):
        seen = 0

        def advance(self, steps: int = 1, **figures: float | str) -> None:
            self.seen += steps
            if self.seen == 15:
                raise KeyboardInterrupt

    broken, whole = (
        DemoSettings(output=tmp_path / name, rooms=2, views=12) for name in ("broken", "whole")
    )
    with pytest.raises(KeyboardInterrupt):
        render_rooms(broken, overwrite=False, progress=Impatient())
    for settings in (broken, whole):
        render_rooms(settings, overwrite=False, progress=Silent())
    files = list(whole.scenes.rglob("*.png"))
    assert len(files) == 2 * 12 * 2
    for path in files:
        twin = broken.scenes / path.relative_to(whole.scenes)
        assert twin.read_bytes() == path.read_bytes()


def test_rooms_that_are_overwritten_leave_no_frame_behind(tmp_path):
    long, short = (DemoSettings(output=tmp_path, rooms=1, views=n) for n in (14, 12))
    render_rooms(long, overwrite=False, progress=Silent())
    with pytest.raises(ConflictError, match="views: 14 → 12"):
        render_rooms(short, overwrite=False, progress=Silent())
    render_rooms(short, overwrite=True, progress=Silent())
    assert len(list(short.scenes.rglob("rgb/*.png"))) == 12
    assert len(list(short.scenes.rglob("pose/*.txt"))) == 12


def test_a_device_that_is_not_there_stops_the_demo_before_any_work(cli_inprocess, tmp_path):
    status, _, err = cli_inprocess("demo", "--device", "cuda:7", cwd=tmp_path)
    assert status == 3
    assert "cuda:7" in err
    assert not list(tmp_path.iterdir())


def test_a_demo_does_not_write_among_other_files(cli_inprocess, tmp_path):
    photo = tmp_path / "photos" / "a.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"a photo")
    status, _, err = cli_inprocess("demo", "-o", "photos", cwd=tmp_path)
    assert status == 2
    assert "photos holds other files" in err
    assert list(photo.parent.iterdir()) == [photo]


def test_lunar_ground_is_rendered_in_the_place_of_rooms(tmp_path, monkeypatch):
    monkeypatch.setattr("distill3r_core.stages.demo.parts.VIEW_SIZE", (28, 42))
    settings = DemoSettings(output=tmp_path / "demo", world="lunar", rooms=2, views=12, steps=1)
    render_rooms(settings, overwrite=False, progress=Silent())
    for name in ("ground-0", "ground-1"):
        depth = sorted((settings.scenes / name / "depth").glob("*.png"))
        assert len(depth) == 12
        with Image.open(depth[0]) as picture:
            millimeters = np.asarray(picture)
        assert (millimeters > 1000).mean() > 0.9
        assert millimeters.std() > 100
    commands = {step.name: step.command for step in steps_of(settings)}
    assert "ground-0/rgb" in commands["infer"]
    rooms = DemoSettings(output=tmp_path / "demo", rooms=2, views=12, steps=1)
    with pytest.raises(ConflictError):
        render_rooms(rooms, overwrite=False, progress=Silent())


def angles_from_straight_down(folder: Path) -> np.ndarray:
    """Degrees between each camera of a scene and straight down."""
    poses = [np.loadtxt(path) for path in sorted((folder / "pose").glob("*.txt"))]
    return np.degrees([np.arccos(np.clip(-pose[2, 2], -1, 1)) for pose in poses])


def test_the_command_takes_lunar_ground_the_whole_route(cli_inprocess, tmp_path, monkeypatch):
    monkeypatch.setattr("distill3r_core.stages.demo.parts.VIEW_SIZE", (28, 42))
    monkeypatch.setattr(demo_plan, "BENCH_VIEWS", "2")
    monkeypatch.setattr(demo_plan, "INFER_VIEWS", 2)
    monkeypatch.setattr(demo_plan, "BENCH_SECONDS", 1)
    line = ("demo", "--scenes", "lunar", "--set", "rooms=1", "--set", "views=12")
    status, out, err = cli_inprocess(*line, "--set", "steps=1", "--json", cwd=tmp_path)
    assert status == 1, err  # one step teaches nothing
    report = json.loads(out)
    assert report["result"]["passed"] is False
    assert all((tmp_path / path).is_file() for path in report["files"])
    (ground,) = (tmp_path / "demo" / "scenes").glob("*/")
    assert ground.name == "ground-0"
    assert 44 < angles_from_straight_down(ground).mean() < 56  # `pitch`
    depth = sorted((ground / "depth").glob("*.png"))
    assert len(depth) == len(list((ground / "rgb").glob("*.png"))) == 12
    with Image.open(depth[0]) as picture:
        millimeters = np.asarray(picture)
    assert (millimeters > 1000).mean() > 0.9
    assert millimeters.std() > 100


def test_flights_that_are_asked_for_are_flown_in_turns(cli_inprocess, tmp_path, monkeypatch):
    line = ("demo", "--scenes", "lunar", "--set", "flights=[nadir, pitch]", "--print-config")
    status, out, err = cli_inprocess(*line, "--json", cwd=tmp_path)
    assert status == 0, err
    assert json.loads(out)["flights"] == ["nadir", "pitch"]
    monkeypatch.setattr("distill3r_core.stages.demo.parts.VIEW_SIZE", (14, 21))
    wanted = {"output": tmp_path, "world": "lunar", "rooms": 3, "views": 12}
    settings = DemoSettings(**wanted, flights=("nadir", "pitch"))
    render_rooms(settings, overwrite=False, progress=Silent())
    first, second, third = (
        angles_from_straight_down(settings.scenes / f"ground-{number}") for number in range(3)
    )
    assert max(first.max(), third.max()) < 1
    assert second.min() > 30
    with pytest.raises(ConflictError, match="flights"):
        render_rooms(DemoSettings(**wanted), overwrite=False, progress=Silent())
