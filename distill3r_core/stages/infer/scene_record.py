"""What `run.json` keeps of one scene, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill3r_core import profiling
from distill3r_core.geometry.pnp import pnp_available
from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.io.images.inputs import display_path
from distill3r_core.models.student import HeadName
from distill3r_core.reconstruction.head_options import WorldOptions
from distill3r_core.reconstruction.local_views import LocalViews
from distill3r_core.reconstruction.point_cloud import CleanCloud, low_views
from distill3r_core.reconstruction.prediction.load_model import LoadedModel
from distill3r_core.reconstruction.reconstruct import ReconstructionOutcome
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.report import Failure, Omission


@dataclass(frozen=True)
class SceneOutcome:
    """What came out of one scene.

    Args:
        folder: Folder of the result.
        record: The record that `run.json` keeps, as plain data.
        failed: Inputs that were left out.
        omitted: Files that are no input.
        finished_before: The same result was there already.
        notes: Further notes for the user.
    """

    folder: Path
    record: Mapping[str, Any]
    failed: tuple[Failure, ...]
    omitted: tuple[Omission, ...] = ()
    finished_before: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrittenFiles:
    """The files of a scene, and the cloud in them; None where there is no world for one."""

    files: Sequence[Path]
    cleaned: CleanCloud | None


def record_of(
    folder: Path,
    outcome: ReconstructionOutcome,
    written: WrittenFiles,
    *,
    name: str,
    model: LoadedModel,
    head: HeadName,
    options: WorldOptions | None,
    seconds: float,
) -> dict[str, Any]:
    """The record of a scene that was just reconstructed.

    Args:
        folder: Folder of the result.
        outcome: The views.
        written: What was made of them.
        name: Name of the scene.
        model: The model that ran.
        head: Which heads were run.
        options: How views came into one world; None where they did not.
        seconds: From the first view's pass to the last file.
    """
    scene, forward = outcome.scene, outcome.forward
    result = {
        "scene": name,
        "model": model.label,
        "student": list(scene.facts),
        "precision": model.precision,
        "teacher_settings": model.teacher_settings,
        "head": head,
        "views": len(scene.views),
        "scale": scene.scale.unit,
        "scale_source": scene.scale.source,
        "scale_residual": scene.scale.residual,
        "scale_error": scene.scale.error,
        "behind": [view.camera.name for view in scene.views if not (view.depth > 0).any()],
        "seconds": round(seconds, 3),
        "forward_seconds": round(forward.seconds, 3),
        "estimate_bytes": forward.estimate_bytes,
        "peak_bytes": forward.peak_bytes,
        "head_chunk": forward.head_chunk,
    }
    if isinstance(scene, LocalViews):
        views = [_camera(view.camera, "confidence_local") for view in scene.views]
    else:
        assert written.cleaned is not None and options is not None, "a world has a cloud"
        result |= _world(scene, written.cleaned, options)
        views = _placed(scene, written.cleaned)
    paths = (view.loaded.path for view in scene.views)
    return {
        "version": profiling.tool_version(),
        "machine": profiling.machine(model.device),
        "model": model.location,
        "inputs": list(dict.fromkeys(display_path(path) for path in paths if path is not None)),
        "reliability": None if scene.reliability is None else scene.reliability.as_plain(),
        "result": result,
        "views": views,
        "files": [str(path.relative_to(folder)) for path in written.files],
    }


def _world(scene: Reconstruction, cleaned: CleanCloud, options: WorldOptions) -> dict[str, Any]:
    """Facts about the cloud and the poses of views in one world."""
    pnp = "left out"
    if options.poses == "pnp" or options.compare:
        pnp = "run" if pnp_available() else "not installed"
    # Medians over the views of the distance between the closed-form pose and PnP's.
    agreement = None
    if found := [view.agreement for view in scene.views if view.agreement is not None]:
        degrees, distance = map(float, np.median(np.array(found), axis=0))
        agreement = {"degrees": degrees, "distance": distance, "views": float(len(found))}
    return {
        "points": len(cleaned.cloud),
        "cloud": scene.cloud_from,
        "cleaning": [
            {"step": step.name, "from": step.before, "to": step.after} for step in cleaned.steps
        ],
        "low_confidence": [scene.views[index].camera.name for index in low_views(cleaned.kept)],
        "refinement": scene.refinement.as_plain(),
        "poses": options.poses,
        "pnp": pnp,
        "agreement": agreement,
    }


def _placed(scene: Reconstruction, cleaned: CleanCloud) -> list[dict[str, Any]]:
    """The views of a world: what each adds to the cloud, and how PnP sees it."""
    none = [None] * len(scene.views)
    refined = scene.refinement
    confidence = f"confidence_{'local' if scene.cloud_from == 'aligned' else 'global'}"
    return [
        _camera(view.camera, confidence)
        | {
            "kept": round(kept, 4),
            "aligned": fitted,
            "alignment_residual": None if residual is None else round(residual, 5),
            "alignment_agreement": None if agreement is None else round(agreement, 4),
            "pnp_degrees": None if view.agreement is None else round(view.agreement[0], 4),
            "pnp_distance": None if view.agreement is None else round(view.agreement[1], 5),
        }
        for view, kept, fitted, residual, agreement in zip(
            scene.views,
            cleaned.kept,
            refined.aligned or none,
            refined.residuals or none,
            refined.agreements or none,
            strict=True,
        )
    ]


def _camera(camera: Pinhole, confidence: str) -> dict[str, Any]:
    return {
        "name": camera.name,
        "size": list(camera.size),
        "focal": round(float(camera.intrinsics[0, 0]), 2),
        "focal_source": camera.facts["focal_source"],
        "misfit": camera.facts["misfit"],
        "confidence": round(camera.facts[confidence], 4),
    }
