"""Lunar ground by the commands: rendered, learned by a pair student, scored by its protocol."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes import render_lunar

RunCli = Callable[..., tuple[int, str, str]]


def test_ground_is_scored_by_slopes_and_hazards(tmp_path: Path, cli_inprocess: RunCli) -> None:
    scene = render_lunar(3, 8, (48, 64))
    write_rgbd_scene(
        tmp_path / "ground" / "one", scene.images, scene.depth, scene.world_from_cam,
        scene.intrinsics[0],
    )  # fmt: skip

    def result(*line: str) -> dict:
        status, out, err = cli_inprocess(*line, "--json", cwd=tmp_path)
        assert status == 0, err
        return json.loads(out)["result"]

    score = ("eval", "--protocol", "lunar")
    given = (*score, "--data", "ground", "--set", "size=48x64")
    truth = result(*given, "--predict", "truth")
    assert truth["views"] == 8
    assert truth["metrics"]["chamfer"] == pytest.approx(0, abs=0.1)  # centimeters
    assert truth["metrics"]["slope_correlation"] == pytest.approx(1)
    plane = result(*given, "--predict", "constant")["metrics"]
    for degrees in (5, 10, 15, 20):
        assert truth["metrics"][f"hazard_{degrees}"] == 1
        assert plane[f"hazard_missed_{degrees}"] == 1  # a plane has no slopes
        assert plane[f"hazard_{degrees}"] < 1
    result("manifest", "ground", "--views", "4", "--stride", "1", "--val-frames", "every:2")
    result("cache", "--size", "48x64")
    result("train", "--preset", "pair-tiny", "--max-steps", "1")
    student = result(*score)  # the run's validation frames with their own depth
    assert student["views"] == 4
    assert [one["views"] for one in student["sequences"]] == [2, 2]  # pairs, not samples of four
    assert student["metrics"]["slope_mae"] > 0
    assert 0 <= student["metrics"]["hazard_15"] <= 1
    assert student["metrics"]["vcre"] > 0
    # From the data set: the same frames, paired around those that it was trained on.
    on_data = result(*score, "--data", "ground")
    assert (on_data["views"], on_data["seen_in_training"]) == (4, 4)
    assert [one["views"] for one in on_data["sequences"]] == [2, 2]
    for name in ("slope_mae", "rra_5", "vcre", "overlap_distance"):
        assert on_data["metrics"][name] == pytest.approx(student["metrics"][name], rel=1e-3), name
