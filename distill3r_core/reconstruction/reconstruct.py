"""From images to a reconstruction: forward pass, cameras, scale. The Python way in is here too."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import torch

from distill3r_core.errors import NothingUsableError, RequestError
from distill3r_core.io.exports.cameras import FRAME
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.io.images.masks import MaskSource
from distill3r_core.models import Student
from distill3r_core.models.reliability_calibration import ReliabilityCalibration
from distill3r_core.models.scene.spec import SceneSpec
from distill3r_core.models.student import HeadName
from distill3r_core.prediction import Predictor
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.cameras.colmap_views import place_by_colmap
from distill3r_core.reconstruction.cameras.known_positions import (
    KnownPositions,
    apply_known,
    read_known,
)
from distill3r_core.reconstruction.head_options import (
    CloudSource,
    PoseSource,
    WorldOptions,
    heads_of,
    require_heads,
    require_world,
    resolve_options,
)
from distill3r_core.reconstruction.loaded_views import (
    Fitting,
    ImageSource,
    LoadedView,
    views_of_images,
)
from distill3r_core.reconstruction.local_views import LocalViews, find_local_cameras
from distill3r_core.reconstruction.prediction.forward_pass import (
    ForwardPass,
    image_tensor,
    run_predictor,
    run_student,
)
from distill3r_core.reconstruction.prediction.load_model import model_facts
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.reconstruction.refinement.scene import refine_scene
from distill3r_core.reconstruction.refinement.summary import RefinementSummary
from distill3r_core.reconstruction.reliability.map_checks import check_local_maps, check_views
from distill3r_core.reconstruction.reliability.novelty import novelty_of
from distill3r_core.reconstruction.reliability.verdict import (
    MapChecks,
    Reliability,
    judge,
    knows_depth,
)
from distill3r_core.reconstruction.scale import Scale
from distill3r_core.reconstruction.view_maps import finite_pixels
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.runs.student_file import fit_of


@dataclass(frozen=True)
class ReconstructionOutcome:
    """A reconstruction, what its forward pass took, and what the user should know.

    Args:
        scene: The views in one world, or each by itself where the local head was run alone.
    """

    scene: Reconstruction | LocalViews
    forward: ForwardPass
    failed: tuple[Failure, ...]
    notes: tuple[str, ...]


@overload
def reconstruct(
    images: Sequence[ImageSource],
    model: Student | Predictor,
    *,
    masks: Sequence[MaskSource | None] | None = None,
    fit: ImageFit | None = None,
    head: Literal["both", "global"] = "both",
    cloud: CloudSource | None = None,
    poses: PoseSource | None = None,
    pnp: bool = False,
    refine: bool | None = None,
    cameras: CameraOptions | None = None,
    scale_from: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstruction: ...
@overload
def reconstruct(
    images: Sequence[ImageSource],
    model: Student | Predictor,
    *,
    masks: Sequence[MaskSource | None] | None = None,
    fit: ImageFit | None = None,
    head: Literal["local"],
    cameras: CameraOptions | None = None,
    progress: Progress | None = None,
) -> LocalViews: ...
def reconstruct(
    images: Sequence[ImageSource],
    model: Student | Predictor,
    *,
    masks: Sequence[MaskSource | None] | None = None,
    fit: ImageFit | None = None,
    head: HeadName = "both",
    cloud: CloudSource | None = None,
    poses: PoseSource | None = None,
    pnp: bool = False,
    refine: bool | None = None,
    cameras: CameraOptions | None = None,
    scale_from: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstruction | LocalViews:
    """Reconstruct a scene from images.

    >>> scene = reconstruct(sorted(Path("photos").glob("*.jpg")), load_student("runs/small-001"))
    >>> save_reconstruction(scene, "desk", ("ply", "glb", "colmap"))

    Args:
        images: Paths, Pillow images, or upright sRGB pixels; the first is the anchor. Files and
            Pillow images are turned upright and brought to sRGB as `infer` does.
        model: A student or any other model (see `load_model`), on the device where it is to run.
        masks: The mask of each image (its path, or an array that is True where a pixel counts),
            beside its alpha channel. Points of other pixels take part in no fit and are in no
            cloud and no depth map.
        fit: How images become a student's input; None: as it was trained.
        head: Which heads of a student are run. "global" takes poses from PnP and the cloud from
            global maps; "local" knows no poses, and gives each view by itself.
        cloud: See `Reconstruction`; None: "aligned" where both heads are run.
        poses: See `solve_cameras`; None: "similarity" where both heads are run.
        pnp: Run PnP beside the similarity, to measure how far they agree.
        refine: Align the images by the depth of their local maps; None: where the model has learned
            depth of such images.
        cameras: What is known about the cameras; None: each view has a focal length of its own.
        scale_from: What makes lengths metric, as `infer --scale-from` takes it. Views of pixels
            are called `view_000`, `view_001` and so on.
        seed: Seed of every random choice.

    Raises:
        ExtraMissingError: Poses are PnP's or COLMAP's, and pycolmap is not installed.
        ImageError: An image cannot be used: unreadable, blank, without a pixel by its mask, or
            changed in the meantime.
        InputMissingError: The model needs what images lack, such as depth.
        NothingUsableError: There are no images, or no view has a camera.
        OutOfMemoryError: See `run_student`.
        RequestError: The model or its heads do not give what is asked for.
    """
    if isinstance(images, str | Path):
        raise TypeError(f"images: expected a list of images, not {images!r}")
    if not len(images):
        raise NothingUsableError("no images to reconstruct from")
    require_world(head, scale_from)
    known = None if scale_from is None else read_known(scale_from)
    if isinstance(model, Student):
        model = StudentPredictor(model, fit or fit_of(model))
    elif fit is not None:
        raise RequestError(f"fit: {model.name} fits images by itself")
    head = heads_of(model, head)
    options = resolve_options(head, cloud, poses, pnp=pnp, refine=refine)
    require_heads(model, head)
    fitting = fitting_of(model)
    if masks is None:
        masks = [None] * len(images)
    elif len(masks) != len(images):
        raise RequestError(f"{len(masks)} masks do not fit {len(images)} images")
    views = views_of_images(images, masks, fitting)
    cameras = cameras or CameraOptions()
    cameras.check(views)
    outcome = reconstruct_views(
        views,
        model,
        head=head,
        options=options,
        cameras=cameras,
        known=known,
        seed=seed,
        progress=progress,
    )
    return outcome.scene


def fitting_of(model: Predictor) -> Fitting:
    """How images become a model's input."""
    return model.fit if isinstance(model, StudentPredictor) else model.prepare


def reconstruct_views(
    views: Sequence[LoadedView],
    model: Predictor,
    *,
    head: HeadName,
    options: WorldOptions | None,
    cameras: CameraOptions,
    known: KnownPositions | None,
    seed: int,
    device: torch.device | None = None,
    scene: str = "scene",
    progress: Progress | None = None,
) -> ReconstructionOutcome:
    """Reconstruct a scene from fitted images.

    Args:
        views: FittedImage for the model, in order; the first is the anchor.
        options: How views come into one world; None where they do not.
        cameras: What is known about the cameras; checked against the views.
        known: What makes lengths metric.
        seed: Seed of every random choice.
        device: Where a model that is no student computes; None: the CPU.

    Raises:
        NothingUsableError: The model predicts no finite point, or no view has a camera.
        OutOfMemoryError: See `run_student`.
        RequestError: See `apply_known`.
    """
    progress = progress or Silent()
    if isinstance(model, StudentPredictor):
        forward = run_student(model.student, views, head=head, progress=progress)
    else:
        forward = run_predictor(
            model, views, device=device or torch.device("cpu"), sample=scene, progress=progress
        )
    by_head = zip(*(maps.known.values() for maps in forward.maps), strict=True)
    if not all(any(finite_pixels(points).any() for points in maps) for maps in by_head):
        raise NothingUsableError(
            f"{model.name} gives no number for any pixel: its weights are damaged, or its training "
            "left the range of numbers"
        )
    facts = model_facts(model)
    if options is None:
        alone, failed = find_local_cameras(views, forward.maps, cameras=cameras, progress=progress)
        checks = check_local_maps(alone)
        apart = LocalViews(alone, facts=facts, reliability=_judge(checks, model, views))
        return ReconstructionOutcome(apart, forward, failed, ())
    solved = solve_cameras(
        views,
        forward.maps,
        poses="similarity" if options.poses == "colmap" else options.poses,
        compare=options.compare,
        cameras=cameras,
        seed=seed,
        in_scene=scene_of(model) is not None,
        progress=progress,
    )
    if not solved.views:
        lines = [f"  {failure.item}: {failure.reason}" for failure in solved.failed]
        raise NothingUsableError("\n".join(["no view has a camera:", *lines]))
    posed, failed = solved.views, solved.failed
    if options.poses == "colmap":
        posed, unplaced = place_by_colmap(posed, progress)
        failed = (*failed, *unplaced)
    found = Reconstruction(
        posed,
        scale=_scale(model),
        cloud_from=options.cloud,
        frame=scene_of(model) or FRAME,
        facts=facts,
        reliability=_judge(check_views(posed), model, views),
        refinement=RefinementSummary(
            "poses by COLMAP" if options.poses == "colmap" else "left out"
        ),
    )
    found = _refined(found, model, views, options.refine, progress)
    notes: list[str] = []
    if known is not None:
        found, notes = apply_known(found, known)
    return ReconstructionOutcome(found, forward, failed, tuple(notes))


def _refined(
    found: Reconstruction,
    model: Predictor,
    views: Sequence[LoadedView],
    refine: bool | None,
    progress: Progress,
) -> Reconstruction:
    """The reconstruction with refined poses, judged again; as it is where that is not asked for."""
    if refine is False:
        return found
    if refine is None and not knows_depth(found.reliability, _calibration_of(model)):
        reason = "the model has not learned depth of such images"
        return dataclasses.replace(found, refinement=RefinementSummary(reason))
    student = model.student if isinstance(model, StudentPredictor) else None
    refined, summary = refine_scene(found.views, views, student, progress=progress)
    checks = check_views(refined)
    if summary.aligned:
        share = sum(summary.aligned) / len(summary.aligned)
        checks = dataclasses.replace(
            checks,
            aligned=share,
            anchor_aligned=summary.aligned[0],
            supported=summary.supported,
        )
    reliability = _judge(checks, model, views)
    return dataclasses.replace(found, views=refined, reliability=reliability, refinement=summary)


def _calibration_of(model: Predictor) -> ReliabilityCalibration | None:
    """What held-out samples showed of a student."""
    metadata = model.student.metadata if isinstance(model, StudentPredictor) else None
    return None if metadata is None else metadata.calibration


def _judge(checks: MapChecks, model: Predictor, views: Sequence[LoadedView]) -> Reliability:
    """The reliability of a reconstruction from views of these checks."""
    calibration = _calibration_of(model)
    novelty = anchor_novelty = None
    if calibration is not None and calibration.features is not None:
        assert isinstance(model, StudentPredictor)
        images = [image_tensor(view) for view in views]
        novelty = novelty_of(model.student, images, calibration.features)
        if checks.agreement is not None:  # there is a world, in the frame of the first view
            anchor_novelty = novelty_of(model.student, images[:1], calibration.features)
    return judge(checks, novelty, calibration, anchor_novelty=anchor_novelty)


def scene_of(model: Predictor) -> str | None:
    """The frame of the scene that a student knows, in words; None for any other model."""
    if not isinstance(model, StudentPredictor) or not isinstance(model.student.spec, SceneSpec):
        return None
    names = ", ".join(frame.name for frame in model.student.spec.scenes)
    return f"that of the scene {names}, as the student learned it; OpenCV axes of cameras"


def _scale(model: Predictor) -> Scale:
    """What lengths mean before anything is known of the scene."""
    if not isinstance(model, StudentPredictor) or not model.metric:
        return Scale()
    if isinstance(model.student.spec, SceneSpec):
        return Scale("m", "the frame of the scene is in meters")
    calibration = _calibration_of(model)
    error = None if calibration is None else calibration.scale_error
    expected = "not checked" if error is None else f"off by {error:.0%} on held-out images"
    return Scale("m", f"learned from targets in meters, {expected}", error=error)
