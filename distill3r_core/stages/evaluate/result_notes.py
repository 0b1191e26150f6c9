"""What a person should know beside the tables of an evaluation: what is missing there, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill3r_core.evaluation.paired_differences import MIN_SEQUENCES
from distill3r_core.evaluation.pose_metrics import pose_metrics
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import columns_of
from distill3r_core.report import duration

_NAMED = 3  # of a model, predictions that cannot be aligned


def result_notes(result: Mapping[str, Any]) -> list[str]:
    """Notes on figures that are missing, pairs that cannot be right, and refined poses."""
    return [
        *_missing_figures(result),
        *(
            f"{label}: no clouds of {reason}"
            for label, reasons in result["unaligned"].items()
            for reason in reasons[:_NAMED]
        ),
        *_failed_pairs(result),
        *_other_grids(result["grids"]),
        *_missing_intervals(result),
        *_refinement(result["refinement"]),
    ]


def _missing_figures(result: Mapping[str, Any]) -> list[str]:
    shown = {metric.name for metric in columns_of(PROTOCOLS[result["protocol"]])}
    return [
        f"no {name}: {_listed(sequences)} lack what it needs, or are not finite"
        for name, sequences in result["missing"].items()
        if name in shown
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"


def _failed_pairs(result: Mapping[str, Any]) -> list[str]:
    rules = PROTOCOLS[result["protocol"]].poses
    of_pairs = {metric.name for metric in pose_metrics(rules)} & result["metrics"].keys()
    count = result["pairs_without_baseline"]
    if not count or not of_pairs:
        return []
    return [f"{count} pairs of views have no true baseline, and count as failed"]


def _other_grids(grids: Mapping[str, str]) -> list[str]:
    (first, grid), *others = grids.items()
    return [
        f"{label} is scored at {own}, {first} at {grid}: figures of different grids do not compare"
        for label, own in others
        if own != grid
    ]


def _missing_intervals(result: Mapping[str, Any]) -> list[str]:
    """Figures that two models have, and whose difference has no interval."""
    metrics = columns_of(PROTOCOLS[result["protocol"]])
    first, *others = result["models"]
    notes = []
    for label in others:
        both = [result["models"][one] for one in (first, label)]
        lacking = [
            metric.heading
            for metric in metrics
            if metric.name not in result["differences"][label]
            and all(figures[metric.name] is not None for figures in both)
        ]
        if label in result["other_truths"]:
            notes.append(
                f"{label} is scored against other samples than {first}: their figures do not "
                "compare; --data ROOT scores both against the same"
            )
            continue
        if not lacking:
            continue
        views = [
            [(one["name"], one["frames"]) for one in result["model_sequences"][name]]
            for name in (first, label)
        ]
        if views[0] != views[1]:
            reason = "not scored on the same views"
        elif len(views[0]) < MIN_SEQUENCES:
            count = f"{len(views[0])} sequence{'s' * (len(views[0]) > 1)}"
            fewest = min(len(frames) for _, frames in views[0])
            if fewest < MIN_SEQUENCES:
                reason = f"{count} of {fewest} views, {MIN_SEQUENCES} of either are needed"
            else:
                reason = (
                    f"{count}, {MIN_SEQUENCES} are needed of figures that have no value for each "
                    "view or pair of views"
                )
        else:
            reason = "not finite in every draw"
        notes.append(
            f"no interval: {reason} (difference of {label} from {first}: {', '.join(lacking)})"
        )
    return notes


def _refinement(facts: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    notes = []
    for label, one in (facts or {}).items():
        if not one["views"]:
            continue  # all are placed in a scene
        of = "" if facts is None or len(facts) == 1 else f" of {label}"
        missing = one["without_camera"]
        lost = f" ({missing} have no camera and keep the model's pose)" if missing else ""
        notes.append(
            f"poses{of} refined by image alignment: {one['aligned']} of {one['views']} views "
            f"aligned{lost}, {duration(one['seconds'])}; --no-refine leaves it out"
        )
    return notes
