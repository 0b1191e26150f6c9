"""What a command costs, measured from outside: seconds and the highest memory of its process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A small program between: what a process takes counts from its parent's size on, and with all
# other children of its parent.
_BETWEEN = """
import json, resource, subprocess, sys, time
begin = time.monotonic()
done = subprocess.run(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump({
        "seconds": time.monotonic() - begin,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "bytes": 1024 * used.ru_maxrss,
    }, file)
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class ProcessCost:
    """Seconds by the clock and of the processor, and bytes at most."""

    seconds: float
    cpu_seconds: float
    bytes: int


def run_measured(
    command: Sequence[str | Path], *, cwd: Path, variables: Mapping[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], ProcessCost]:
    """Run a command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        used = Path(folder) / "used.json"
        done = subprocess.run(
            [sys.executable, "-c", _BETWEEN, str(used), *map(str, command)],
            capture_output=True, text=True, check=False, cwd=cwd,
            env={**os.environ, **(variables or {})},
        )  # fmt: skip
        return done, ProcessCost(**json.loads(used.read_text()))
