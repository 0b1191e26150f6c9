"""Time and memory of `distill3r eval` at the size of the paper's evaluation."""

import json
import sys

import pytest
from posed_rooms import write_rendered_room
from process_cost import run_measured

VIEWS, SIZE = 50, (224, 518)
SECONDS, BYTES = 60, 2e9

_OPTIONS = ("--predict", "truth", "--no-colmap", "--json")


@pytest.mark.slow
def test_fifty_views_are_scored_in_a_minute_and_two_gigabytes(tmp_path):
    write_rendered_room(tmp_path / "rooms/one", 5, views=VIEWS, size=(112, 259))
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
