"""The script that holds a GPU to the project's targets runs before a GPU sees it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "docs" / "benchmarks" / "gates.py"


@pytest.fixture
def gates(monkeypatch):
    spec = importlib.util.spec_from_file_location("gates", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gates", module)
    spec.loader.exec_module(module)
    return module


def test_every_gate_is_measured_on_a_cpu_in_little_and_finished_parts_are_kept(tmp_path):
    little = "--device cpu --preset tiny --size 28x42 --views 2,4 --many 8 --runs 1"
    command = [sys.executable, str(SCRIPT), "out", *little.split()]
    command += ["--compare", "student-reference"]
    written = []
    for _ in range(2):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        records = tmp_path.glob("out/*/run.json")
        written.append({path.parent.name: path.stat().st_mtime_ns for path in records})
    # What fits into 24 GB is not tried in 48.
    assert set(written[0]) == {"compared", "many", "within-24-gb"}
    assert written[0] == written[1]
    found = {gate["name"]: gate for gate in json.loads((tmp_path / "out/gates.json").read_text())}
    assert found["8 views, seconds"]["verdict"] == "kept"
    assert found["views in 24 GB"]["measured"] == found["views in 48 GB"]["measured"] == 8
    assert found["exponent of time, 4 to 8 views"]["measured"] > 0
    assert found["fast3r / student, seconds, 12 views"]["verdict"] == "not measured"


def test_growth_and_exponent_are_those_of_a_case_worked_by_hand(gates):
    def row(model, views, seconds, peak):
        return {"model": model, "views": views, "seconds": seconds, "peak_bytes": peak,
                "status": "measured"}  # fmt: skip

    compared = {
        "ratios": [{"views": 12, "models": {"fast3r-reference": {"ratio": 4.0}}}],
        "rows": [row("student", 12, 1.0, 10**9), row("student", 112, 10.0, 2 * 10**9)],
    }
    many = {"rows": [row("student", 1120, 1000.0, 10**10)]}
    full = {"rows": [{**row("student", 1120, None, None), "status": "out of memory"}]}
    found = {gate.name: gate for gate in gates.judge(compared, many, {24.0: full, 48.0: many})}
    assert found["fast3r-reference / student, seconds, 12 views"].verdict == "kept"
    assert found["fast3r-reference / student, seconds, 32 views"].verdict == "not measured"
    assert found["memory per additional view, MB"].measured == pytest.approx(10)
    assert found["exponent of time, 112 to 1120 views"].measured == pytest.approx(2)
    assert found["exponent of time, 112 to 1120 views"].verdict == "MISSED"
    assert found["views in 24 GB"].verdict == "MISSED"
    assert found["views in 48 GB"].verdict == "kept"
