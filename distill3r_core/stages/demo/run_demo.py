"""The whole route on rendered rooms: no data, no weights, no network, no GPU.

Every step runs the stage of a command; the command line is printed before.
"""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill3r_core import config, profiling
from distill3r_core.errors import ConflictError
from distill3r_core.report import Progress, Report, Silent, Table
from distill3r_core.stages.demo.demo_steps import DemoSettings, steps_of
from distill3r_core.stages.demo.parts import draw_views, render_rooms

__all__ = ["PASS", "DemoSettings", "demo"]

PASS = 0.4  # of the constant-depth baseline: the most that held-out Acc and Comp may be
PREVIEW = "preview.png"
_METRICS = ("acc", "comp")


def demo(
    settings: DemoSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Render rooms, distil their depth into a student, score it, use it, measure it.

    In the same folder again, it continues where it was interrupted.

    Args:
        settings: See `DemoSettings`.
        overwrite: Replace a demo made with other settings.
        progress: Receives the progress of every step, and its command line as a note.

    Returns:
        `result` has `passed`: whether held-out `acc` and `comp` are at most `PASS` of `baseline`,
        what a constant depth scores.

    Raises:
        ConflictError: The folder holds a demo made with other settings, or other files.
    """
    progress = progress or Silent()
    begin = time.monotonic()
    profiling.pick_device(settings.device)  # refuses a missing device before any work
    if not overwrite:
        folder = settings.output
        if folder.is_dir() and any(folder.iterdir()) and not settings.scenes.exists():
            raise ConflictError(
                f"{folder} holds other files",
                hint="choose another folder with -o, or write among them with --overwrite",
            )
    render_rooms(settings, overwrite=overwrite, progress=progress)
    reports: dict[str, Report] = {}
    for step in steps_of(settings):
        progress.note(f"$ {step.command}")
        reports[step.name] = step.run(overwrite, progress)
    preview = draw_views(settings, settings.output / PREVIEW)
    return _report(settings, reports, preview, seconds=time.monotonic() - begin)


def _report(
    settings: DemoSettings, reports: Mapping[str, Report], preview: Path, *, seconds: float
) -> Report:
    trained, scored = reports["train"].result, reports["eval"].result
    held_out = {name: scored["metrics"][name] for name in _METRICS}
    baseline = {name: scored["baselines"]["constant_depth"][name] for name in _METRICS}
    passed = all(held_out[name] <= PASS * baseline[name] for name in _METRICS)
    clouds = [path for path in reports["infer"].files if path.suffix == ".ply"]
    result: dict[str, Any] = {
        "passed": passed,
        "loss": {"first": trained["loss_first"], "last": trained["loss_last"]},
        **held_out,
        "baseline": baseline,
        "most": PASS,
        "run": trained["run"],
        "seconds": round(seconds, 1),
    }
    rows = [("training loss", f"{trained['loss_first']:.4g} → {trained['loss_last']:.4g}")]
    for name in _METRICS:
        share = f"{held_out[name] / baseline[name]:.2f} of it, at most {PASS:g} passes"
        scores = f"{held_out[name]:.1f} cm; constant depth {baseline[name]:.1f} cm ({share})"
        rows.append((f"held-out {name.capitalize()}", scores))
    rows += [
        ("point cloud", ", ".join(str(path) for path in clouds)),
        ("preview", str(preview)),
        ("time", f"{seconds:.0f} s"),
    ]
    # The manifest is brought up to date by every run, and has no end of its own.
    before = all(report.finished_before for name, report in reports.items() if name != "manifest")
    verdict = "OK: the student keeps" if passed else "FAILED: the student does not keep"
    run = shlex.quote(str(settings.run))
    done = [f"{settings.output} was finished before: nothing was done"] if before else []
    return Report(
        settings=config.as_plain(settings),
        result=result,
        files=[*clouds, preview],
        tables=(Table("distill3r demo", ("", ""), tuple(rows), prose=True),),
        notes=[*done, f"next: `distill3r infer PHOTOS --ply -m {run}` · `distill3r manifest ROOT`"],
        summary=f"{verdict} within {PASS:g} of the baseline",
        finished_before=before,
    )
