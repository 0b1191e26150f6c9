"""The script behind the figures of refined poses, in little."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scored_room import make_home

SCRIPT = Path(__file__).parents[3] / "docs" / "benchmarks" / "refined_poses.py"
STEPS = ["student", "pairs", "loops", "joint"]


def measure(*arguments, cwd):
    command = [sys.executable, str(SCRIPT), *map(str, arguments), "--output", str(cwd / "r.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((cwd / "r.json").read_text()), done.stdout


def test_rooms_and_windows_are_measured_after_each_step_and_kept_in_one_file(tmp_path):
    rooms = ("--rooms", "--views", 3, "--size", "42x56", "--arcs", "15", "--errors", "0")
    found, shown = measure(*rooms, cwd=tmp_path)
    rows = found["rooms"]["rows"]
    assert [row["step"] for row in rows] == STEPS
    start, *_, joint = rows
    assert joint["rotation"] < 0.5 < 3 < start["rotation"]
    assert joint["auc_30"] > 0.9 > start["auc_30"] and joint["fused"] < start["fused"] / 3
    assert start["shape"] == pytest.approx(0, abs=1e-4)  # the depth is exact
    assert len(shown.splitlines()) == len(rows)

    make_home(tmp_path)
    run = (tmp_path / "runs/tiny-001", tmp_path / "data/manifest.csv", "--views", 3, "--spread", 3)
    both, _ = measure(*run, cwd=tmp_path)
    assert both["rooms"] == found["rooms"]
    rows = both["windows"]["rows"]
    kinds = list(dict.fromkeys(row["windows"] for row in rows))
    assert kinds == ["held out, neighbors", "spread over the sequence"]  # one of 3 is no window
    assert [row["step"] for row in rows] == STEPS * len(kinds)
    assert all(row["fused"] > 0 and row["shape"] > 0 for row in rows)
