"""Check what this machine has, lacks, and is ready for."""

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill3r_core import paths
from distill3r_core.report import Report, Table
from distill3r_core.stages.doctor import checks
from distill3r_core.stages.doctor.checks import Check

_NO_MODEL = (
    "infer and eval need a model: a run of `distill3r train`, or the weights of a teacher from "
    "`distill3r models download NAME`"
)


def doctor(folder: Path = Path()) -> Report:
    """Check this machine.

    Args:
        folder: Folder for results.

    Returns:
        `result` has `ok` (nothing that is required failed), `ready_for`, `checks` (the required
        things), `extras` and `weights`, each a list of `name`, `state`, `detail`, `remedy`.
    """
    required = [checks.python(), *checks.packages()]
    if all(check.state == "ok" for check in required):
        required += [checks.torch_build(), checks.device()]
        required += [checks.bfloat16(), checks.attention()]
    required += [checks.lmdb_store(folder), checks.disk(folder)]
    extras = checks.extras()
    broken = [check.name for check in required if check.state != "ok"]
    ok = not broken
    weights = checks.weights() if ok else []
    ready = _ready(weights) if ok else []
    return Report(
        settings={},
        machine=None if ok else _machine(),
        result={
            "ok": ok,
            "ready_for": ready,
            "checks": [asdict(check) for check in required],
            "extras": [asdict(check) for check in extras],
            "weights": [asdict(check) for check in weights],
        },
        tables=(
            _table("Required", required),
            _table("Optional extras", extras),
            _table("Weights of teachers and encoders, all optional", _folded(weights)),
        ),
        notes=() if "infer" in ready or not ok else (_NO_MODEL,),
        summary=f"OK: ready for {', '.join(ready)}"
        if ok
        else f"NOT READY: {', '.join(broken)} failed",
    )


def _machine() -> dict[str, Any]:
    """The machine without what may be broken: torch, and psutil, which knows the memory."""
    try:
        from distill3r_core.system.machine_facts import machine_facts
    except checks.FAULTS:
        return {"platform": platform.platform(), "python": platform.python_version()}
    return machine_facts()


def _ready(weights: list[Check]) -> list[str]:
    """Commands that can be run."""
    from distill3r_core.teachers import teacher_names  # torch, which has been checked
    from distill3r_core.training.settings import default_preset

    teachers = [w.name for w in weights if w.name in teacher_names() and w.state == "ok"]
    run = paths.newest_run()
    has_model = bool(teachers) or (run is not None and paths.best_checkpoint(run) is not None)
    return [
        *("demo", "manifest", "cache (RGB-D)", *(f"cache ({name})" for name in teachers)),
        f"train ({default_preset()})",
        *(("eval", "infer") if has_model else ()),
        "bench",
    ]


def _folded(weights: list[Check]) -> list[Check]:
    """The weights that are here, and one line for all others."""
    here = [check for check in weights if check.state == "ok"]
    missing = [check.name for check in weights if check.state != "ok"]
    if not missing:
        return here
    remedy = "distill3r models list; distill3r models download NAME"
    return [*here, Check("not here", "missing", ", ".join(missing), remedy)]


def _table(title: str, found: list[Check]) -> Table:
    rows = []
    for check in found:
        detail = f"{check.detail}\n{check.remedy}" if check.remedy else check.detail
        rows.append((check.name, check.state, detail))
    return Table(title, ("", "", ""), tuple(rows), prose=True)
