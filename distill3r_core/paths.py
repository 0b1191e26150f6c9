"""The default paths, which chain: what one command writes is what the next one reads."""

import os
import re
from pathlib import Path

DATA = Path("data")
MANIFEST = DATA / "manifest.csv"
CACHE = Path("caches/teacher")
RUNS = Path("runs")
RESULTS = Path("results")
DEMO = Path("demo")

_NUMBERED = re.compile(r"-(\d+)$")


def weights_home() -> Path:
    """Where weight files are looked for: `DISTILL3R_HOME`, else `~/.cache/distill3r`."""
    home = os.environ.get("DISTILL3R_HOME")
    return Path(home).expanduser() if home else Path.home() / ".cache" / "distill3r"


def next_numbered(parent: Path, stem: str) -> Path:
    """The path `parent/stem-NNN` with the number after the highest that is there, from 001."""
    used = [
        int(match.group(1))
        for path in parent.glob(f"{stem}-*")
        if path.name.rsplit("-", 1)[0] == stem and (match := _NUMBERED.search(path.name))
    ]
    return parent / f"{stem}-{max(used, default=0) + 1:03d}"


def newest_run(runs: Path = RUNS) -> Path | None:
    """The run folder whose `checkpoints/` changed last, or None where there is no run."""
    checkpoints = [path for path in runs.glob("*/checkpoints/") if any(path.iterdir())]
    if not checkpoints:
        return None
    return max(checkpoints, key=lambda path: path.stat().st_mtime_ns).parent


def best_checkpoint(run: Path) -> Path | None:
    """The checkpoint of a run that is used where none is named: `best`, else `last`."""
    for name in ("best", "last"):
        path = run / "checkpoints" / name / "model.safetensors"
        if path.is_file():
            return path
    return None
