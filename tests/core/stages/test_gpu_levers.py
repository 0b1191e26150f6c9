"""The script behind the figures of docs/benchmarks.md runs before a GPU sees it."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "docs" / "benchmarks" / "gpu_levers.py"


def _failures(found, place=""):
    if not isinstance(found, dict):
        return []
    if "failed" in found:
        return [f"{place}: {found['failed']}"]
    return [line for key, value in found.items() for line in _failures(value, f"{place}/{key}")]


def test_every_lever_is_measured_on_a_cpu_in_little(tmp_path):
    target = tmp_path / "levers.json"
    command = [sys.executable, str(SCRIPT), str(target), "--device", "cpu", "--preset", "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    assert _failures(found) == []
    assert (found["device"], found["preset"]) == ("cpu", "tiny")
    assert {"parts", "inference", "kernels", "training"} < found.keys()
    for rows in found["inference"].values():
        assert "reference" in rows and "default" in rows and "tf32" in rows
        assert all(0 < row["min"] <= row["median"] <= row["max"] for row in rows.values())
    assert set(found["parts"]["3"]) == {"encoder", "fusion", "heads"}
    assert found["training"]["recompute heads"]["all"] > 0
    assert found["kernels"] and found["training"]["kernels"]
