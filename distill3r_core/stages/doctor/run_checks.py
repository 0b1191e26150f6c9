"""Check what this machine has, lacks, and is ready for."""

from dataclasses import asdict
from pathlib import Path

from distill3r_core.report import Report, Table
from distill3r_core.stages.doctor import checks
from distill3r_core.stages.doctor.checks import Check

_READY = ("demo", "manifest", "cache of RGB-D data", "train ({preset})", "eval", "infer", "bench")


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
    ok = all(check.state == "ok" for check in required)
    weights = checks.weights() if ok else []
    ready = _ready(weights) if ok else []
    return Report(
        settings={},
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
            _table("Known weights", weights),
        ),
        summary=_verdict(required, ready, weights),
    )


def _ready(weights: list[Check]) -> list[str]:
    """Commands that can be run, for the summary."""
    from distill3r_core.training.settings import default_preset  # torch, which has been checked

    commands = [text.format(preset=default_preset()) for text in _READY]
    return [*commands, *(f"cache by {check.name}" for check in _teachers(weights, "ok"))]


def _teachers(weights: list[Check], state: str) -> list[Check]:
    """Teachers among the published weights that are in `state`."""
    if not weights:
        return []
    from distill3r_core.teachers import teacher_names

    return [check for check in weights if check.name in teacher_names() and check.state == state]


def _table(title: str, found: list[Check]) -> Table:
    rows = []
    for check in found:
        detail = f"{check.detail}\n{check.remedy}" if check.remedy else check.detail
        rows.append((check.name, check.state, detail))
    return Table(title, ("", "", ""), tuple(rows), prose=True)


def _verdict(required: list[Check], ready: list[str], weights: list[Check]) -> str:
    broken = [check.name for check in required if check.state != "ok"]
    if broken:
        return f"NOT READY: {', '.join(broken)} failed"
    lacking = "".join(
        f" · for cache by {check.name}: {check.remedy}" for check in _teachers(weights, "missing")
    )
    return f"OK: ready for {', '.join(ready)}{lacking}"
