"""The main job as a user types it: the four lines of the design card, in a new folder."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plyfile import PlyData
from posed_rooms import write_rendered_room

ABRIDGED = """\
train: {preset: tiny, max_steps: 20}
bench: {preset: tiny, size: 70x98, budget: 30}
"""
LINES = (
    "distill3r cache --resume",
    "distill3r train",
    "distill3r infer dir --ply",
    "distill3r bench --views 12..128",
)
PATIENCE = 3000.0  # seconds for one line, on a busy machine


def typed(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell, as it stands, with the installed `distill3r`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "DISTILL3R_HOME": str(folder / "no-weights")}
    return subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env=environment | {"HF_HOME": str(folder / "no-hub")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def write_rooms(root: Path, *, rooms: int, views: int) -> list[Path]:
    """Procedural rooms in the layout `rgbd`; gives the pictures."""
    pictures = []
    for seed in range(rooms):
        pictures += write_rendered_room(root / f"room-{seed}", seed, views=views, size=(72, 96))
    return pictures


def walk_the_route(folder: Path, manifest: str, pictures: list[Path]) -> None:
    """`manifest` and the four lines, each held to what it promises.

    Args:
        manifest: The first line.
        pictures: What `infer` is given.
    """
    (folder / "dir").mkdir()
    for index, picture in enumerate(pictures):
        shutil.copy(picture, folder / "dir" / f"photo {index}{picture.suffix}")
    for line in (manifest, *LINES):
        done = typed(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    assert (folder / "data" / "manifest.csv").is_file()
    (cloud,) = (folder / "results" / "infer").glob("dir-*/scene.ply")
    assert len(PlyData.read(str(cloud))["vertex"]) > 1000


def scored(line: str, folder: Path) -> dict[str, Any]:
    done = typed(f"{line} --json", folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["result"]


def test_the_four_lines_work_as_typed_after_manifest(tmp_path):
    (tmp_path / "distill3r.yaml").write_text(ABRIDGED)
    pictures = write_rooms(tmp_path / "rooms", rooms=2, views=26)
    walk_the_route(tmp_path, "distill3r manifest rooms", pictures[:3])
    again = typed("distill3r cache --resume", tmp_path)
    assert again.returncode == 0
    assert scored("distill3r eval", tmp_path)["metrics"]["acc"] > 0


@pytest.mark.slow
def test_the_lines_of_the_readme_unabridged_on_real_frames(tmp_path, data_dir, record_property):
    frames = data_dir / "7scenes_kitchen"
    pictures = sorted(frames.rglob("*.color.jpg"))[-12:]
    walk_the_route(tmp_path, f"distill3r manifest {frames} --val-frames last:40", pictures)
    windows = scored("distill3r eval --protocol held-out", tmp_path)
    each_view = scored(f"distill3r eval --data {frames}", tmp_path)
    # README states those of several runs.
    record_property("held-out", json.dumps(windows))
    record_property("data", json.dumps(each_view))

    student, nearest = windows["metrics"], windows["baselines"]["nearest_frame"]
    for metric in ("abs_rel", "rotation_median", "fused"):
        assert student[metric] < nearest[metric], metric
    assert student["auc_30"] > nearest["auc_30"]
    # Meters were asked of the student: nearer to them than the unit that it would choose itself.
    assert abs(math.log(student["scale_norm"])) < math.log(1.38)
    constant = each_view["baselines"]["constant_depth"]
    assert each_view["metrics"]["acc"] < 0.6 * constant["acc"]


def test_photographs_without_weights_end_in_directions_and_never_in_a_substitute(
    tmp_path, data_dir
):
    shutil.copytree(data_dir / "tree", tmp_path / "photos")
    shutil.copytree(data_dir / "tree", tmp_path / "dir")
    (tmp_path / "distill3r.yaml").write_text(ABRIDGED)
    assert typed("distill3r manifest photos", tmp_path).returncode == 0

    cached = typed(LINES[0], tmp_path)
    assert cached.returncode == 3
    for word in (
        "model.safetensors",
        "da3-small",
        "distill3r models download",
        "--teacher synthetic",
    ):
        assert word in cached.stderr, cached.stderr
    assert "distill3r demo" in cached.stderr
    assert not (tmp_path / "caches").exists()

    trained = typed(LINES[1], tmp_path)
    assert trained.returncode == 3
    assert "distill3r cache" in trained.stderr
    inferred = typed(LINES[2], tmp_path)
    assert inferred.returncode == 3
    assert "distill3r train" in inferred.stderr
    assert typed(LINES[3], tmp_path).returncode == 0


def test_photographs_go_the_whole_way_with_a_teacher_that_says_it_is_a_dry_run(tmp_path, data_dir):
    shutil.copytree(data_dir / "castle", tmp_path / "photos")
    (tmp_path / "distill3r.yaml").write_text(ABRIDGED)
    for line in (
        "distill3r manifest photos",
        "distill3r cache --resume --teacher synthetic --size 70x98",
        "distill3r train",
        "distill3r infer photos --ply",
    ):
        done = typed(line, tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    info = typed("distill3r cache info caches/teacher --json", tmp_path)
    assert "synthetic" in info.stdout
