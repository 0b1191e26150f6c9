"""Time and memory of `distill3r eval` at the size of the paper's evaluation."""

import json
import sys

import pytest
import torch
from process_cost import run_measured

from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes import arc, build_scene, pinhole, render_view

VIEWS, SIZE = 50, (224, 518)
SECONDS, BYTES = 60, 2e9

_OPTIONS = ("--predict", "truth", "--no-colmap", "--json")


@pytest.mark.slow
def test_fifty_views_are_scored_in_a_minute_and_two_gigabytes(tmp_path):
    scene, intrinsics = build_scene(5), pinhole((112, 259))
    poses = arc(scene, VIEWS, seed=5)
    views = [render_view(scene, pose, intrinsics, (112, 259)) for pose in poses]
    images, depths = (torch.stack(parts) for parts in zip(*views, strict=True))
    write_rgbd_scene(tmp_path / "rooms/one", images, depths, poses, intrinsics)
    command = (sys.executable, "-m", "distill3r_cli", "eval", "--data", tmp_path / "rooms")
    done, used = run_measured(
        [*command, *_OPTIONS], cwd=tmp_path, variables={"OMP_NUM_THREADS": "2"}
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert (result["views"], result["grid"]) == (VIEWS, "224x518")
    assert result["metrics"]["acc"] == pytest.approx(0, abs=1e-4)
    assert result["metrics"]["auc_30"] == 1 and result["metrics"]["fused"] < 1e-3
    print(used)
    assert used.bytes < BYTES
    # Two cores for a minute: what other processes take of the clock does not count.
    assert min(used.seconds, used.cpu_seconds / 2) < SECONDS
