"""What `infer` says when it is done: tables, warnings and the next command."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill3r_core.reconstruction.comparison.pictures import PAGE
from distill3r_core.report import Failure, Report, Table
from distill3r_core.results import RECORD
from distill3r_core.stages.infer.scene_record import SceneOutcome

_MAX_NAMES = 8  # of views in a line
# Medians over the views from which poses are called doubtful. In a room that a student knows the
# two lay 9 to 16 degrees and 13 to 25 % of the depth apart, in photographs unlike it 44 and 73 %
# (docs/benchmarks.md, "Which points make the cloud").
_DOUBTFUL_DEGREES, _DOUBTFUL_DISTANCE = 20.0, 0.35
# A student of landscape images fitted those to 1 % of the long edge, and portrait ones to 16 %.
_DOUBTFUL_MISFIT = 0.05
_MAX_ROWS = 24  # of the table of views; run.json has them all
_LEVELS = {  # of reliability, but for "good"
    "worse": "warning: this reconstruction is probably worse than those of held-out images",
    "unreliable": "warning: this reconstruction is unreliable",
    "unknown": "the reliability of this reconstruction is unknown",
}


def scene_report(settings: Mapping[str, Any], outcome: SceneOutcome, *, strict: bool) -> Report:
    """The report of one scene.

    Args:
        strict: Count an unreliable reconstruction as failed.
    """
    result = outcome.record["result"]
    cloud = [("cloud", "none: no poses")]
    if _has_world(result):
        cloud = [
            (f"points: {step['step']}", f"{step['from']:,} → {step['to']:,}")
            for step in result["cleaning"]
        ]
        cloud.append(("cloud from", f"{result['cloud']} points"))
        cloud.append(("low confidence", _listed(result["low_confidence"]) or "no view"))
    rows = [
        ("model", f"{result['model']} ({'; '.join(result['student'])}), {result['precision']}"),
        ("views", str(result["views"])),
        *cloud,
        ("scale", f"{result['scale']} ({result['scale_source']})"),
        (_poses_heading(result), _poses(result)),
        *_refinement_rows(result),
        ("reliability", _reliability(outcome)["level"]),
        *_compared_rows(outcome.record.get("comparison")),
        ("time", f"{result['seconds']:.1f} s, forward {result['forward_seconds']:.1f} s"),
        ("peak memory", f"{result['peak_bytes'] / 2**30:.2f} GiB"),
    ]
    return Report(
        settings=settings,
        result=_result(outcome),
        files=_files(outcome),
        failed=_failed(outcome, strict=strict),
        omitted=outcome.omitted,
        tables=[
            Table(f"{result['scene']} · {outcome.folder}", ("", ""), tuple(rows), prose=True),
            _views_table(outcome),
        ],
        notes=[*outcome.notes, *_warnings(outcome), f"next: {_next(outcome)}"],
        finished_before=outcome.finished_before,
        machine=outcome.record["machine"],
    )


def scenes_report(
    settings: Mapping[str, Any],
    outcomes: Sequence[SceneOutcome],
    failed: Sequence[Failure],
    *,
    strict: bool,
) -> Report:
    """The report of many scenes.

    Args:
        failed: Scenes that could not be reconstructed.
        strict: Count an unreliable reconstruction as failed.
    """
    rows = tuple(_scene_row(outcome) for outcome in outcomes)
    poses = _poses_heading(outcomes[0].record["result"])  # the same heads were run for all
    return Report(
        settings=settings,
        result={"scenes": [_result(outcome) for outcome in outcomes]},
        files=[path for outcome in outcomes for path in _files(outcome)],
        failed=[
            *failed,
            *(one for outcome in outcomes for one in _failed(outcome, strict=strict)),
        ],
        omitted=[omission for outcome in outcomes for omission in outcome.omitted],
        tables=[
            Table(
                "scenes",
                ("scene", "views", "points", "scale", "reliability", poses, "seconds", "folder"),
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


def _result(outcome: SceneOutcome) -> dict[str, Any]:
    return {
        **outcome.record["result"],
        "comparison": outcome.record.get("comparison"),  # a result may be older than it
        "reliability": _reliability(outcome),
        "folder": str(outcome.folder),
    }


def _reliability(outcome: SceneOutcome) -> Mapping[str, Any]:
    """Level and reasons; a result may be older than this check."""
    older = {"level": "unknown", "reasons": ["the result was made without this check"]}
    return outcome.record.get("reliability") or older


def _failed(outcome: SceneOutcome, *, strict: bool) -> list[Failure]:
    """What was left out, and with `strict` the reconstruction itself where it is unreliable."""
    reliability = _reliability(outcome)
    if not strict or reliability["level"] != "unreliable":
        return [*outcome.failed]
    reason = f"unreliable: {'; '.join(reliability['reasons'])}"
    return [*outcome.failed, Failure(outcome.record["result"]["scene"], reason, written=True)]


def _files(outcome: SceneOutcome) -> list[Path]:
    """Files of the folder itself, and folders for the many below it; run.json has them all."""
    shown = dict.fromkeys(
        outcome.folder / (Path(name).parent if Path(name).parent.name else name)
        for name in outcome.record["files"]
    )
    return [*shown, outcome.folder / RECORD]


def _scene_row(outcome: SceneOutcome) -> tuple[str, ...]:
    result = outcome.record["result"]
    return (
        result["scene"],
        str(result["views"]),
        f"{result['points']:,}" if _has_world(result) else "none",
        result["scale"],
        _reliability(outcome)["level"],
        _poses(result),
        f"{result['seconds']:.1f}",
        str(outcome.folder),
    )


def _has_world(result: Mapping[str, Any]) -> bool:
    """Whether the views have poses, and their points make a cloud."""
    return "points" in result


def _compared_rows(compared: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """How far the model of `--compare` is from this one, after one similarity."""
    if compared is None:
        return []
    return [
        ("compared with", f"{compared['model']} ({'; '.join(compared['facts'])})"),
        (
            "points apart",
            f"{100 * compared['residual_share']:.1f} % of the depth (median), "
            f"{100 * compared['within_tenth']:.0f} % within a tenth, by one similarity",
        ),
        (
            "cameras apart",
            f"{compared['pose_degrees']:.2f}° · {100 * compared['pose_distance_share']:.1f} % of "
            "the depth",
        ),
    ]


def _refinement_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How poses were refined; a result may be older than this, or have no poses."""
    found = result.get("refinement")
    if found is None:
        return []
    if not found["refined"]:
        return [("pose refinement", f"no: {found['reason']}")]
    text = f"{found['aligned']} of {result['views']} views aligned"
    if found["groups"] > 1:
        text += f", in {found['groups']} separate groups"
    return [("pose refinement", f"{text}, {found['seconds']:.1f} s")]


def _poses_heading(result: Mapping[str, Any]) -> str:
    """Only with both heads are there two poses of a view that could be compared."""
    compared = result.get("head", "both") == "both" and result.get("pnp") != "left out"
    return "poses against PnP" if compared else "poses"


def _poses(result: Mapping[str, Any]) -> str:
    """What poses there are, and how far the closed form's and PnP's lie from each other."""
    head, agreement = result.get("head", "both"), result.get("agreement")
    if head == "local":
        return "none (--head local)"
    if head == "global":
        return "PnP's (--head global)"
    if result.get("poses") == "colmap":
        return "COLMAP's (--poses colmap)"
    if agreement is not None:
        return f"{agreement['degrees']:.2f}° · {100 * agreement['distance']:.1f} % of the depth"
    return {
        "run": "PnP found no pose",
        "left out": "each view's similarity",
        "not installed": "not run (extra colmap)",
    }[result.get("pnp", "not installed")]  # a result may be older than a fact


def _views_table(outcome: SceneOutcome) -> Table:
    views = outcome.record["views"]
    compared = any(view.get("pnp_degrees") is not None for view in views)
    rows = []
    for view in views[:_MAX_ROWS]:
        cells = [
            view["name"],
            f"{view['size'][1]}x{view['size'][0]}",
            f"{view['focal']:.0f}" + ("" if view["focal_source"] == "points" else "*"),
            f"{view['confidence']:.2f}",
        ]
        if "kept" in view:
            cells.append(f"{100 * view['kept']:.0f} %")
        if compared:
            degrees = view["pnp_degrees"]
            cells.append("" if degrees is None else f"{degrees:.2f}°")
        rows.append(tuple(cells))
    more = len(views) - len(rows)
    title = "views" + (f" (the first {len(rows)}; run.json has {more} more)" if more else "")
    kept = ("kept",) if _has_world(outcome.record["result"]) else ()
    pnp = ("PnP",) if compared else ()
    columns = ("view", "width x height", "focal px", "confidence", *kept, *pnp)
    return Table(title, columns, tuple(rows))


def _warnings(outcome: SceneOutcome) -> list[str]:
    notes = []
    views, reliability = outcome.record["views"], _reliability(outcome)
    if (said := _LEVELS.get(reliability["level"])) is not None:
        notes.append(f"{said}: {'; '.join(reliability['reasons'])}")
    if outcome.finished_before:
        notes.append(f"{outcome.folder} holds this result already; nothing was done")
    for source in sorted({view["focal_source"] for view in views} - {"points"}):
        names = [view["name"] for view in views if view["focal_source"] == source]
        notes.append(f"* focal length of {_listed(names)}: {source}")
    fitted = [view for view in views if view["focal_source"] == "points"]
    # A result may be older than a fact.
    if bent := [view["name"] for view in fitted if (view.get("misfit") or 0) > _DOUBTFUL_MISFIT]:
        notes.append(
            f"warning: the points of {_listed(bent)} fit no pinhole camera: half of them lie more "
            f"than {_DOUBTFUL_MISFIT:.0%} of the picture's long edge from where it sees them; its "
            "focal length and pose are doubtful"
        )
    result = outcome.record["result"]
    if behind := result.get("behind"):  # a result may be older than a fact
        notes.append(
            f"warning: no point of {_listed(behind)} lies in front of its camera: no depth there"
        )
    if alone := [view["name"] for view in views if view.get("aligned") is False]:
        notes.append(
            f"warning: the images of {_listed(alone)} align with no other; the model's pose is kept"
        )
    if (result.get("refinement") or {}).get("groups", 0) > 1:
        notes.append(
            f"warning: the views align in {result['refinement']['groups']} separate groups; how "
            "these lie to each other is the model's guess"
        )
    if _has_world(result) and not result["points"]:
        notes.append("warning: no point is left; the table says which step took them")
    agreement = result.get("agreement")
    if agreement is not None and (
        agreement["degrees"] > _DOUBTFUL_DEGREES or agreement["distance"] > _DOUBTFUL_DISTANCE
    ):
        notes.append(
            "warning: closed form and PnP find different poses: the student's maps do not fit one "
            "camera per view, as where a scene is unlike those it has learned from"
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _next(outcome: SceneOutcome) -> str:
    """What a person is likely to do next: look at the result, and work with it."""
    names = {Path(name).name for name in outcome.record["files"]}
    folder = shlex.quote(str(outcome.folder))
    ways = []
    if PAGE in names:
        ways.append(f"open {outcome.folder / PAGE} in a browser")
    if "scene.ply" in names:
        ways.append(f"`distill3r view {folder}`")
    if "scene.html" in names:
        ways.append(f"open {outcome.folder / 'scene.html'} in a browser")
    if "transforms.json" in names:
        ways.append(f"`ns-train splatfacto --data {folder}` (nerfstudio)")
    elif "points3D.bin" in names:
        trained = shlex.quote(str(outcome.folder / "splats"))
        # Its own defaults are images of a quarter of the size, which it expects to lie there.
        ways.append(
            f"`python simple_trainer.py default --data_dir {folder} --data_factor 1 "
            f"--result_dir {trained}` (gsplat)"
        )
    return " · ".join(ways) or f"look at {outcome.folder / 'preview.png'}"
