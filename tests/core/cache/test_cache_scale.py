"""Ten thousand tiny samples, from which a million is extrapolated."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("sample_costs.py")


def test_what_a_sample_costs_does_not_depend_on_how_many_there_are(tmp_path, drill):
    count = drill(10_000)
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    costs = json.loads(done.stdout)
    # A million samples: a minute to open, 3 GB, a header of 120 MB, ten minutes to merge.
    assert costs["opened"] < 60e-6 * count + 0.2
    assert costs["memory"] < 3000 * count + 2_000_000
    assert costs["header"] < 120 * count + 2000
    assert costs["merged"] < 600e-6 * count + 0.3
