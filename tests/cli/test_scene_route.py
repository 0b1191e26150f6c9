"""A scene student goes the whole way: manifest, cache, train, eval, infer, bench, convert."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from export_readers import assert_complete
from plyfile import PlyData
from posed_rooms import write_rendered_room

from distill3r_core.models import load_student
from distill3r_core.reconstruction.formats import FORMATS

RunCli = Callable[..., tuple[int, str, str]]
SMALL = "model.network={width: 16, depth: 1, heads: 2, head_width: 8}"


def test_one_room_is_learned_scored_and_reconstructed_in_its_own_frame(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    pictures = write_rendered_room(tmp_path / "rooms" / "room", 0, views=12, size=(70, 98))

    def run(*line: str) -> tuple[dict, str]:
        status, out, err = cli_inprocess(*line, "--json", cwd=tmp_path)
        assert status == 0, err
        return json.loads(out), err

    run("manifest", "rooms", "--views", "4", "--stride", "1", "--val-frames", "last:4")
    run("cache", "--size", "28x42")
    train = ("train", "--preset", "scene-vit", "--set", SMALL, "--max-steps", "40")
    done, err = run(*train, "--set", "optim.lr=2e-3")
    assert "scene rooms/room: root mean square radius" in err
    assert done["result"]["validation"]["validation_mse_scene"] > 0

    scored, _ = run("eval", "--protocol", "localization")
    figures = scored["result"]["metrics"]
    assert scored["result"]["views"] == 4
    assert set(figures) >= {"location_median", "location_rotation_median", "location_near"}
    assert figures["coordinate_mse_metric"] > 0
    nearest = scored["result"]["baselines"]["nearest_frame"]
    assert nearest["location_median"] > 0
    assert scored["result"]["baselines"]["constant_depth"]["location_median"] is None
    assert scored["result"]["baselines"]["identity_poses"]["location_median"] is None
    on_data, _ = run("eval", "--protocol", "localization", "--data", "rooms")
    assert on_data["result"]["seen_in_training"] == 8
    assert on_data["result"]["views"] == 4  # the same frames, read from the data set
    mine = on_data["result"]["metrics"]["coordinate_mse_metric"]
    assert mine == pytest.approx(figures["coordinate_mse_metric"], rel=1e-3)
    table, _ = run("eval", "--data", "rooms")
    assert table["result"]["seen_in_training"] == 8
    assert table["result"]["metrics"]["acc"] is not None
    assert table["result"]["grid"] == "28x42"

    (tmp_path / "dir").mkdir()
    for picture in pictures[:3]:
        (tmp_path / "dir" / picture.name).write_bytes(picture.read_bytes())
    made, _ = run("infer", "dir", "--ply", "--intrinsics", "rooms/room/intrinsics.txt")
    folder = Path(made["files"][0]).parent
    cloud = PlyData.read(tmp_path / folder / "scene.ply")
    assert any("scene rooms/room" in comment for comment in cloud.comments)
    assert any("metric" in comment for comment in cloud.comments)
    student = load_student(tmp_path / "runs/scene-vit-001")
    (frame,) = student.spec.scenes
    vertices = np.stack([cloud["vertex"][axis] for axis in "xyz"], axis=-1)
    assert np.linalg.norm(vertices.mean(0) - frame.center) < 2 * frame.scale
    status, _, err = cli_inprocess("infer", "dir", "--head", "local", cwd=tmp_path)
    assert status == 2
    assert "in the frame of its scene alone" in err

    run("bench", "-m", "runs/scene-vit-001", "--views", "1,2", "--size", "28x42", "--budget", "20")
    run("convert", "runs/scene-vit-001", "student.safetensors")
    assert load_student(tmp_path / "student.safetensors").spec.scenes == (frame,)


def test_a_scene_student_walks_the_way_from_real_frames(
    tmp_path: Path, cli_inprocess: RunCli, data_dir: Path
) -> None:
    frames = data_dir / "7scenes_kitchen"
    pictures = sorted(frames.rglob("*.color.jpg"))[-2:]

    def run(*line: str) -> dict:
        status, out, err = cli_inprocess(*line, "--json", cwd=tmp_path)
        assert status == 0, f"{line}\n{err}"
        return json.loads(out)

    run("manifest", str(frames), "--stride", "1", "--val-frames", "last:40")
    run("cache", "--size", "28x42")
    run("train", "--preset", "scene-vit", "--set", SMALL, "--max-steps", "2")
    scored = run("eval", "--protocol", "localization")["result"]
    assert scored["views"] == 40
    assert scored["metrics"]["coordinate_mse_metric"] > 0
    on_data = run("eval", "--protocol", "localization", "--data", str(frames))["result"]
    assert on_data["views"] + on_data["seen_in_training"] == len(list(frames.rglob("*.color.jpg")))
    pytest.importorskip("pycolmap")
    made = run("infer", *map(str, pictures), "--format", ",".join(FORMATS), "-o", "two")
    assert "two/scene.ply" in made["files"]
    assert_complete(tmp_path / "two", views=2, points=made["result"]["points"])
    run("bench", "--views", "1", "--size", "28x42", "-o", "bench")
    run("convert", "runs/scene-vit-001", "student.safetensors")
    assert load_student(tmp_path / "student.safetensors").spec.scenes
