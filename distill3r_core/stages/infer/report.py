"""What `infer` says when it is done: a record, tables and the next command."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill3r_core import profiling
from distill3r_core.io.sources import spelled
from distill3r_core.report import Failure, Report, Table
from distill3r_core.stages.infer.reconstruct import Outcome
from distill3r_core.stages.infer.reconstruction import CleanCloud, Reconstruction, low_views
from distill3r_core.stages.outputs import RECORD
from distill3r_core.stages.student_file import StudentFile

_MOST_NAMES = 8  # of views in a line
# Medians over the views from which poses are called doubtful. In a room that a student knows the
# two lay 9 to 16 degrees and 13 to 25 % of the depth apart, in photographs unlike it 44 and 73 %
# (docs/benchmarks.md, "Which points make the cloud").
_DOUBTFUL_DEGREES, _DOUBTFUL_DISTANCE = 20.0, 0.35
_MOST_ROWS = 24  # of the table of views; run.json has them all


@dataclass(frozen=True)
class SceneOutcome:
    """What came out of one scene.

    Args:
        folder: Of the result.
        record: As plain data: what `run.json` keeps.
        failed: Inputs that were left out.
        finished_before: The same result was there already.
        notes: What is worth saying besides.
    """

    folder: Path
    record: Mapping[str, Any]
    failed: tuple[Failure, ...]
    finished_before: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        folder: Path,
        outcome: Outcome,
        cleaned: CleanCloud,
        files: Sequence[Path],
        failed: Sequence[Failure],
        *,
        name: str,
        file: StudentFile,
        seconds: float,
    ) -> "SceneOutcome":
        """The outcome of a scene that was just reconstructed."""
        scene, forward = outcome.scene, outcome.forward
        result = {
            "scene": name,
            "model": file.label,
            "student": list(scene.facts),
            "precision": file.precision,
            "views": len(scene.views),
            "points": len(cleaned.cloud),
            "cloud": scene.cloud_from,
            "scale": scene.scale.unit,
            "scale_source": scene.scale.source,
            "scale_residual": scene.scale.residual,
            "cleaning": [
                {"step": step.name, "from": step.before, "to": step.after} for step in cleaned.steps
            ],
            "low_confidence": [scene.views[index].camera.name for index in low_views(cleaned.kept)],
            "agreement": _agreement(scene),
            "behind": [view.camera.name for view in scene.views if not (view.depth > 0).any()],
            "seconds": round(seconds, 3),
            "forward_seconds": round(forward.seconds, 3),
            "estimate_bytes": forward.estimate_bytes,
            "peak_bytes": forward.peak_bytes,
            "head_chunk": forward.head_chunk,
        }
        confidence = "confidence_local" if scene.cloud_from == "aligned" else "confidence_global"
        views = [
            {
                "name": view.camera.name,
                "size": list(view.camera.size),
                "focal": round(float(view.camera.intrinsics[0, 0]), 2),
                "focal_source": view.camera.facts["focal_source"],
                "confidence": round(view.camera.facts[confidence], 4),
                "kept": round(kept, 4),
                "pnp_degrees": None if view.agreement is None else round(view.agreement[0], 4),
                "pnp_distance": None if view.agreement is None else round(view.agreement[1], 5),
            }
            for view, kept in zip(scene.views, cleaned.kept, strict=True)
        ]
        record = {
            "version": profiling.tool_version(),
            "machine": profiling.machine(file.device),
            "model": str(file.path),
            "inputs": list(dict.fromkeys(spelled(path) for path in _paths(outcome))),
            "result": result,
            "views": views,
            "files": [str(path.relative_to(folder)) for path in files],
        }
        return cls(folder, record, tuple(failed), notes=outcome.notes)


def _paths(outcome: Outcome) -> list[Path]:
    loaded = (view.loaded for view in outcome.scene.views)
    return [view.path for view in loaded if view.path is not None]


def scene_report(settings: Mapping[str, Any], outcome: SceneOutcome) -> Report:
    """The report of one scene."""
    return Report(
        settings=settings,
        result={**outcome.record["result"], "folder": str(outcome.folder)},
        files=_files(outcome),
        failed=outcome.failed,
        tables=[_result_table(outcome), _views_table(outcome)],
        notes=[*outcome.notes, *_warnings(outcome), f"next: {_next(outcome)}"],
        finished_before=outcome.finished_before,
        machine=outcome.record["machine"],
    )


def scenes_report(
    settings: Mapping[str, Any], outcomes: Sequence[SceneOutcome], failed: Sequence[Failure]
) -> Report:
    """The report of many scenes."""
    rows = tuple(
        (
            outcome.record["result"]["scene"],
            str(outcome.record["result"]["views"]),
            f"{outcome.record['result']['points']:,}",
            outcome.record["result"]["scale"],
            _poses_against_pnp(outcome.record["result"]["agreement"]) or "not run",
            f"{outcome.record['result']['seconds']:.1f}",
            str(outcome.folder),
        )
        for outcome in outcomes
    )
    return Report(
        settings=settings,
        result={
            "scenes": [
                {**outcome.record["result"], "folder": str(outcome.folder)} for outcome in outcomes
            ]
        },
        files=[path for outcome in outcomes for path in _files(outcome)],
        failed=[*failed, *(failure for outcome in outcomes for failure in outcome.failed)],
        tables=[
            Table(
                "scenes",
                ("scene", "views", "points", "scale", "poses against PnP", "seconds", "folder"),
                rows,
            )
        ],
        notes=[
            f"{outcome.record['result']['scene']}: {note}"
            for outcome in outcomes
            for note in (*outcome.notes, *_warnings(outcome))
        ],
        finished_before=all(outcome.finished_before for outcome in outcomes),
        machine=outcomes[0].record["machine"],
    )


def _files(outcome: SceneOutcome) -> list[Path]:
    """Files of the folder itself, and folders for the many below it; run.json has them all."""
    shown = dict.fromkeys(
        outcome.folder / (Path(name).parent if Path(name).parent.name else name)
        for name in outcome.record["files"]
    )
    return [*shown, outcome.folder / RECORD]


def _agreement(scene: Reconstruction) -> dict[str, float] | None:
    """Medians over the views of the distance between the closed-form pose and PnP's."""
    found = [view.agreement for view in scene.views if view.agreement is not None]
    if not found:
        return None
    degrees, distance = np.median(np.array(found), axis=0)
    return {"degrees": float(degrees), "distance": float(distance), "views": float(len(found))}


def _result_table(outcome: SceneOutcome) -> Table:
    result = outcome.record["result"]
    agreement = result["agreement"]
    rows = [
        ("model", f"{result['model']} ({'; '.join(result['student'])}), {result['precision']}"),
        ("views", str(result["views"])),
        *((f"points: {step['step']}", _from_to(step)) for step in result["cleaning"]),
        ("cloud from", f"{result['cloud']} points"),
        ("scale", f"{result['scale']} ({result['scale_source']})"),
        ("low confidence", _listed(result["low_confidence"]) or "no view"),
        ("poses against PnP", _poses_against_pnp(agreement) or "not run (extra colmap)"),
        ("time", f"{result['seconds']:.1f} s, forward {result['forward_seconds']:.1f} s"),
        ("peak memory", f"{result['peak_bytes'] / 2**30:.2f} GiB"),
    ]
    return Table(f"{result['scene']} · {outcome.folder}", ("", ""), tuple(rows), prose=True)


def _poses_against_pnp(agreement: Mapping[str, float] | None) -> str | None:
    if agreement is None:
        return None
    return f"{agreement['degrees']:.2f}° · {100 * agreement['distance']:.1f} % of the depth"


def _from_to(step: Mapping[str, Any]) -> str:
    return f"{step['from']:,} → {step['to']:,}"


def _views_table(outcome: SceneOutcome) -> Table:
    views = outcome.record["views"]
    rows = [
        (
            view["name"],
            f"{view['size'][1]}x{view['size'][0]}",
            f"{view['focal']:.0f}" + ("" if view["focal_source"] == "points" else "*"),
            f"{view['confidence']:.2f}",
            f"{100 * view['kept']:.0f} %",
            "" if view["pnp_degrees"] is None else f"{view['pnp_degrees']:.2f}°",
        )
        for view in views[:_MOST_ROWS]
    ]
    more = len(views) - len(rows)
    title = "views" + (f" (the first {len(rows)}; run.json has {more} more)" if more else "")
    columns = ("view", "width x height", "focal px", "confidence", "kept", "PnP")
    return Table(title, columns, tuple(rows))


def _warnings(outcome: SceneOutcome) -> list[str]:
    notes = []
    if outcome.finished_before:
        notes.append(f"{outcome.folder} holds this result already; nothing was done")
    for source in sorted({view["focal_source"] for view in outcome.record["views"]} - {"points"}):
        names = [v["name"] for v in outcome.record["views"] if v["focal_source"] == source]
        notes.append(f"* focal length of {_listed(names)}: {source}")
    result = outcome.record["result"]
    if behind := result.get("behind"):  # a result may be older than a fact
        notes.append(
            f"warning: no point of {_listed(behind)} lies in front of its camera: no depth there"
        )
    if not result["points"]:
        notes.append("warning: no point is left; the table says which step took them")
    agreement = result["agreement"]
    if agreement is not None and (
        agreement["degrees"] > _DOUBTFUL_DEGREES or agreement["distance"] > _DOUBTFUL_DISTANCE
    ):
        notes.append(
            "warning: closed form and PnP find different poses: the student's maps do not fit one "
            "camera per view, as where a scene is unlike those it has learned from"
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _next(outcome: SceneOutcome) -> str:
    """What a person is likely to want now: to look at it, and to go on from it."""
    names = {Path(name).name for name in outcome.record["files"]}
    folder = shlex.quote(str(outcome.folder))
    ways = []
    if "scene.ply" in names:
        ways.append(f"`distill3r view {folder}`")
    if "scene.html" in names:
        ways.append(f"open {outcome.folder / 'scene.html'} in a browser")
    if "transforms.json" in names:
        ways.append(f"`ns-train splatfacto --data {folder}` (nerfstudio)")
    elif "points3D.bin" in names:
        trained = shlex.quote(str(outcome.folder / "splats"))
        # Its own defaults are pictures of a quarter of the size, which it expects to lie there.
        ways.append(
            f"`python simple_trainer.py default --data_dir {folder} --data_factor 1 "
            f"--result_dir {trained}` (gsplat)"
        )
    return " · ".join(ways) or f"look at {outcome.folder / 'preview.png'}"
