"""`distill3r eval` on fabricated scenes of SpatialBench, as a user types it."""

import json
import shutil

import numpy as np
import pytest


@pytest.fixture
def bench(golden_dir, tmp_path):
    """A root with the two fabricated scenes, one of which loses its depth in a copy."""
    root = tmp_path / "spatialbench"
    scenes = golden_dir / "spatialbench_layout"
    for density in ("single", "sparse", "medium"):
        shutil.copytree(
            scenes / "scene_a", root / density / "eth3d" / "courtyard", dirs_exist_ok=True
        )
        shutil.copytree(scenes / "scene_b", root / density / "tum" / "room" / "0")
    for path in root.rglob("*"):
        path.chmod(0o755)
    return root


def test_scenes_of_spatialbench_are_scored_from_the_command_line(cli_inprocess, bench, tmp_path):
    line = ("eval", "--data", bench, "--protocol", "spatialbench-sparse", "--predict", "truth")
    status, out, err = cli_inprocess(*line, "--size", "56x70", "--json", cwd=tmp_path)
    assert status == 0, err
    result = json.loads(out)["result"]
    assert {one["name"] for one in result["sequences"]} == {"eth3d/courtyard", "tum/room/0"}
    assert result["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert result["metrics"]["auc_30"] == 1
    by_scene = {one["name"]: one["metrics"] for one in result["sequences"]}
    assert result["data_sets"] == {  # each has one scene
        "eth3d": by_scene["eth3d/courtyard"],
        "tum": by_scene["tum/room/0"],
    }
    assert result["metrics"]["ate"] == pytest.approx(0, abs=1e-4)
    assert result["rules"]["pose_form"].startswith("da3")
    assert result["baselines"]["constant_depth"]["abs_rel"] > 0.01
    assert result["baselines"]["identity_poses"]["auc_30"] < 1

    depth = sorted((bench / "sparse/eth3d/courtyard/depths").iterdir())[1]
    depth.unlink()  # every later frame would be matched with another's depth
    status, out, _ = cli_inprocess(
        *line, "--size", "56x70", "--json", "-o", tmp_path / "again", cwd=tmp_path
    )
    assert status == 5
    found = json.loads(out)
    (failed,) = found["failed"]
    assert "courtyard" in failed["item"] and "2 files for 3 images" in failed["reason"]
    assert [one["name"] for one in found["result"]["sequences"]] == ["tum/room/0"]


@pytest.mark.parametrize("density", ["single", "medium"])
def test_every_density_is_scored_from_the_command_line(cli_inprocess, bench, tmp_path, density):
    protocol = f"spatialbench-{density}"
    line = ("eval", "--data", bench, "--protocol", protocol, "--predict", "truth")
    status, out, err = cli_inprocess(*line, "--size", "56x70", "--json", cwd=tmp_path)
    assert status == 0, err
    result = json.loads(out)["result"]
    assert {one["name"] for one in result["sequences"]} == {"eth3d/courtyard", "tum/room/0"}
    assert result["metrics"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert result["baselines"]["constant_depth"]["abs_rel"] > 0.01
    if density == "medium":
        assert result["metrics"]["auc_30"] == 1
        assert "fscore" in result["metrics"]


def test_a_broken_pose_of_spatialbench_is_named_and_its_frame_left_out(
    cli_inprocess, bench, tmp_path
):
    pose = sorted((bench / "sparse/eth3d/courtyard/poses").iterdir())[0]
    np.save(pose, np.full((4, 4), np.nan, dtype=np.float32))
    line = ("eval", "--data", bench, "--protocol", "spatialbench-sparse", "--predict", "truth")
    status, out, _ = cli_inprocess(*line, "--size", "56x70", "--json", cwd=tmp_path)
    assert status == 5
    (failed,) = json.loads(out)["failed"]
    assert "not finite" in failed["reason"]


def test_no_scene_of_spatialbench_says_what_is_expected(cli_inprocess, bench, tmp_path):
    line = ("eval", "--data", bench, "--protocol", "spatialbench-dense", "--predict", "truth")
    status, _, err = cli_inprocess(*line, cwd=tmp_path)
    assert status == 3
    assert "dense/<data set>/<scene>/images" in err
