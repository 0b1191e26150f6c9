"""What this machine has, what it lacks, and what it is ready for."""

from dataclasses import asdict
from pathlib import Path

from distill3r_core.report import Report, Table
from distill3r_core.stages import doctor_checks as checks
from distill3r_core.stages.doctor_checks import Check

_WITHOUT_DATA = ("demo", "bench")
_WITH_DATA = ("manifest", "cache of RGB-D data", "train", "eval", "infer")


def doctor(folder: Path = Path()) -> Report:
    """Look at this machine.

    Args:
        folder: Where results would go.

    Returns:
        `result` has `ok` (nothing that is required failed), `ready_for`, `checks` (the required
        things) and `extras`, each a list of `name`, `state`, `detail`, `remedy`.
    """
    required = [checks.python(), *checks.packages()]
    if all(check.state == "ok" for check in required):
        required += [checks.device(), checks.bfloat16(), checks.attention()]
    required += [checks.lmdb_store(folder), checks.disk(folder)]
    extras = checks.extras()
    ok = all(check.state == "ok" for check in required)
    ready = [*_WITHOUT_DATA, *_WITH_DATA] if ok else []
    return Report(
        settings={},
        result={
            "ok": ok,
            "ready_for": ready,
            "checks": [asdict(check) for check in required],
            "extras": [asdict(check) for check in extras],
        },
        tables=(_table("Required", required), _table("Optional extras", extras)),
        summary=_verdict(required, ready),
    )


def _table(title: str, found: list[Check]) -> Table:
    rows = []
    for check in found:
        detail = f"{check.detail}\n{check.remedy}" if check.remedy else check.detail
        rows.append((check.name, check.state, detail))
    return Table(title, ("", "", ""), tuple(rows), prose=True)


def _verdict(required: list[Check], ready: list[str]) -> str:
    broken = [check.name for check in required if check.state != "ok"]
    if broken:
        return f"NOT READY: {', '.join(broken)} failed"
    return f"OK: ready for {', '.join(ready)}"
