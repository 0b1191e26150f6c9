"""Time and memory of `distill3r eval` at the size of the paper's evaluation."""

import json
import resource
import time

import pytest
import torch

from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes import arc, build_scene, pinhole, render_view

VIEWS, SIZE = 50, (224, 518)
SECONDS, BYTES = 60, 2e9


@pytest.mark.slow
def test_fifty_views_are_scored_in_a_minute_and_two_gigabytes(cli, tmp_path):
    scene, intrinsics = build_scene(5), pinhole((112, 259))
    poses = arc(scene, VIEWS, seed=5)
    views = [render_view(scene, pose, intrinsics, (112, 259)) for pose in poses]
    images, depths = (torch.stack(parts) for parts in zip(*views, strict=True))
    write_rgbd_scene(tmp_path / "rooms/one", images, depths, poses, intrinsics)
    begin = time.monotonic()
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = cli(
        "eval", "--data", tmp_path / "rooms", "--predict", "truth", "--json", cwd=tmp_path,
        env={"OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    elapsed = time.monotonic() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert (result["views"], result["grid"]) == (VIEWS, "224x518")
    assert result["metrics"]["acc"] == pytest.approx(0, abs=1e-4)
    assert result["metrics"]["auc_30"] == 1 and result["metrics"]["fused"] < 1e-3
    assert used.ru_maxrss * 1024 < BYTES
    # Two cores for a minute: what other processes take of the clock does not count.
    seconds = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
    assert min(elapsed, seconds / 2) < SECONDS
    print(f"{elapsed:.0f} s, {seconds:.0f} CPU-seconds, {used.ru_maxrss / 1024**2:.2f} GiB")
