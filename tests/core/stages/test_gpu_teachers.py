"""The script that times teachers on a GPU runs before a GPU sees it."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "docs" / "benchmarks" / "gpu_teachers.py"


def test_teachers_are_checked_and_timed_on_a_cpu_in_little(tmp_path):
    target = tmp_path / "teachers.json"
    names = ["da3-small", "vggt", "pi3", "mast3r"]
    command = [sys.executable, str(SCRIPT), "-o", str(target), "--device", "cpu", "--small"]
    command += ["--views", "2,3", "--runs", "1", "--teachers", ",".join(names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(target.read_text())["rows"]
    assert [(row["teacher"], row["views"]) for row in rows] == [
        (name, views) for name in names for views in (2, 3)
    ]
    for row in rows:
        assert 0 < row["seconds_min"] <= row["seconds"] <= row["seconds_max"]
        assert row["tflop"] > 0 and row["peak_bytes"] > 0
        assert 0 < row["bfloat16_error"] < 0.1  # it rounds, and not by much
    assert all(f"| `{name}` |" in done.stdout for name in names)
