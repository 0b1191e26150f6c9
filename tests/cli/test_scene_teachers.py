"""Scene students whose labels are a network's, with the poses of the source and without any."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from official_folders import write_folder

from distill3r_core.cache.store import TeacherCache
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.models import load_student
from distill3r_core.scenes import render_scene

RunCli = Callable[..., tuple[int, str, str]]
CACHE = ("cache", "--teacher", "da3-small", "--size", "28x42", "--threshold", "0")
SMALL = "model.network={width: 16, depth: 1, heads: 2, head_width: 8}"
TRAIN = ("train", "--preset", "scene-vit", "--set", SMALL, "--max-steps", "2")


@pytest.fixture
def rooms(tmp_path: Path, golden_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with six views of a room, three others, and a small Depth Anything 3."""
    scene = render_scene(0, 9, (56, 84))
    for name, some in (("rooms", slice(6)), ("more", slice(6, 9))):
        write_rgbd_scene(
            tmp_path / name / "room", scene.images[some], scene.depth[some],
            scene.world_from_cam[some], scene.intrinsics[0],
        )  # fmt: skip
    write_folder(tmp_path / "weights" / "da3-small", golden_dir, "da3-small")
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    return tmp_path


@pytest.mark.parametrize("posed", [True, False])
def test_a_scene_is_learned_from_the_maps_of_a_network(
    posed: bool, rooms: Path, cli_inprocess: RunCli
) -> None:
    def run(*line: str) -> str:
        status, out, err = cli_inprocess(*line, cwd=rooms)
        assert status == 0, err
        return out if "--json" in line else " ".join((out + err).split())

    cut = ("--views", "3", "--val-frames", "last:3")
    if not posed:
        cut = ("--views", "all", "--images-only", "--val-scenes", "0")
    run("manifest", "rooms", "--stride", "1", *cut)
    run(*CACHE)
    run(*TRAIN)
    cache = TeacherCache(rooms / "caches" / "teacher")
    (name,) = cache.names("train")
    assert cache.entry(name).views == (3 if posed else 6)  # without poses, one sample is all
    (frame,) = load_student(rooms / "runs/scene-vit-001").spec.scenes  # type: ignore[attr-defined]
    assert frame.posed is posed
    assert frame.metric is posed  # the network has no unit; meters are those of the poses
    targets = cache.read(name).targets
    world = torch.tensor(cache.detail(name).get("world_from_anchor") or torch.eye(3, 4).tolist())
    points = apply_similarity(world, targets.points_global)[targets.valid_mask].double()
    center = points.mean(0)
    assert frame.center == pytest.approx(center.tolist(), rel=1e-3, abs=1e-3)
    radius = (points - center).square().sum(-1).mean().sqrt()
    assert frame.scale == pytest.approx(float(radius), rel=1e-3)
    score = ("eval", "--protocol", "localization", "--data", "more")
    result = json.loads(run(*score, "--json"))["result"]
    assert result["views"] == 3
    assert (result["metrics"]["location_near"] is not None) is posed
    assert ("it learned rooms/room without the poses of the data" in run(*score)) is not posed
