"""From views to a reconstruction: forward pass, cameras, scale. The Python way in is here too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import UInt8

from distill3r_core.errors import ImageError, NothingUsableError
from distill3r_core.io.images.fit import Fit
from distill3r_core.io.images.inputs import InputFile
from distill3r_core.models import Student
from distill3r_core.models.student import HeadName
from distill3r_core.reconstruction.camera_poses import solve
from distill3r_core.reconstruction.forward_pass import Forward, predict
from distill3r_core.reconstruction.head_options import (
    CloudSource,
    Placing,
    PoseSource,
    placing,
    require_world,
)
from distill3r_core.reconstruction.known_positions import KnownPositions, apply_known, read_known
from distill3r_core.reconstruction.loaded_views import LoadedView, load_views, view_of_pixels
from distill3r_core.reconstruction.local_views import LocalViews, see_alone
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.reconstruction.scale import Scale
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.runs.student_file import fit_of

Image = str | Path | PIL.Image.Image | UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class Outcome:
    """What came of the views, what the pass took, and what was left out or is worth saying.

    Args:
        scene: The views in one world, or each by itself where the local head was run alone.
        forward: The pass.
        failed: Views that were left out.
        notes: Worth saying.
    """

    scene: Reconstruction | LocalViews
    forward: Forward
    failed: tuple[Failure, ...]
    notes: tuple[str, ...]


@overload
def reconstruct(
    images: Sequence[Image],
    student: Student,
    *,
    fit: Fit | None = None,
    head: Literal["both", "global"] = "both",
    cloud: CloudSource | None = None,
    poses: PoseSource | None = None,
    pnp: bool = True,
    scale_from: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstruction: ...
@overload
def reconstruct(
    images: Sequence[Image],
    student: Student,
    *,
    fit: Fit | None = None,
    head: Literal["local"],
    progress: Progress | None = None,
) -> LocalViews: ...
def reconstruct(
    images: Sequence[Image],
    student: Student,
    *,
    fit: Fit | None = None,
    head: HeadName = "both",
    cloud: CloudSource | None = None,
    poses: PoseSource | None = None,
    pnp: bool = True,
    scale_from: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstruction | LocalViews:
    """Reconstruct a scene from pictures.

    >>> scene = reconstruct(sorted(Path("photos").glob("*.jpg")), load_student("runs/small-001"))
    >>> scene.save("desk", ("ply", "glb", "colmap"))

    Args:
        images: Paths, Pillow's pictures, or upright RGB pixels; the first is the anchor.
        student: On the device where it is to run.
        fit: How pictures become its input; None: as it was trained.
        head: Which heads are run. "global" takes poses from PnP and the cloud from global maps;
            "local" knows no poses, and gives each view by itself.
        cloud: See `Reconstruction`; None: "aligned" where both heads are run.
        poses: See `solve`; None: "similarity" where both heads are run.
        pnp: Run PnP beside the similarity, to tell how they agree.
        scale_from: What makes lengths metric, as `infer --scale-from` takes it. Views of pixels
            are called `view_000`, `view_001` and so on.
        seed: Of every random choice.
        progress: Reports every step.

    Raises:
        ExtraMissingError: Poses are PnP's, and pycolmap is not installed.
        ImageError: A picture cannot be used.
        NothingUsableError: There are no pictures, or no view has a camera.
        OutOfMemoryError: See `predict`.
        RequestError: The heads do not give what is asked for.
    """
    if isinstance(images, str | Path):
        raise TypeError(f"images: a list of pictures is wanted, not {images!r}")
    if not len(images):
        raise NothingUsableError("no pictures to reconstruct from")
    plan = placing(head, cloud, poses, pnp=pnp)
    require_world(head, scale_from)
    fit = fit or fit_of(student)
    known = None if scale_from is None else read_known(scale_from)
    views = [_view(image, fit, index) for index, image in enumerate(images)]
    outcome = reconstruct_views(
        views, student, head=head, plan=plan, known=known, seed=seed, progress=progress
    )
    return outcome.scene


def reconstruct_views(
    views: Sequence[LoadedView],
    student: Student,
    *,
    head: HeadName,
    plan: Placing | None,
    known: KnownPositions | None,
    seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Reconstruct a scene from fitted pictures.

    Args:
        views: In order; the first is the anchor.
        student: On the device where it is to run.
        head: Which heads are run.
        plan: How views come into one world; None where they do not.
        known: What makes lengths metric.
        seed: Of every random choice.
        progress: Reports every step.

    Raises:
        NothingUsableError: The student gives no number, or no view has a camera.
        OutOfMemoryError: See `predict`.
        RequestError: See `apply_known`.
    """
    progress = progress or Silent()
    forward = predict(student, views, head=head, progress=progress)
    heads = zip(*(maps.known.values() for maps in forward.maps), strict=True)
    if not all(any(seen.finite.any() for seen in of_head) for of_head in heads):
        raise NothingUsableError(
            "the student gives no number for any pixel: its weights are damaged, or its training "
            "left the range of numbers"
        )
    if plan is None:
        alone, failed = see_alone(views, forward.maps, progress=progress)
        return Outcome(LocalViews(alone, facts=_facts(student)), forward, failed, ())
    solved = solve(
        views,
        forward.maps,
        poses=plan.poses,
        compare=plan.compare,
        seed=seed,
        progress=progress,
    )
    if not solved.views:
        lines = [f"  {failure.item}: {failure.reason}" for failure in solved.failed]
        raise NothingUsableError("\n".join(["no view has a camera:", *lines]))
    scene = Reconstruction(
        solved.views, scale=_scale(student), cloud_from=plan.cloud, facts=_facts(student)
    )
    notes: list[str] = []
    if known is not None:
        scene, notes = apply_known(scene, known)
    return Outcome(scene, forward, solved.failed, tuple(notes))


def _view(image: Image, fit: Fit, index: int) -> LoadedView:
    if isinstance(image, PIL.Image.Image):
        image = np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, np.ndarray):
        return view_of_pixels(image, fit, name=f"view_{index:03d}")
    loaded = load_views([InputFile(Path(image), "picture")], fit)
    if loaded.failed:
        raise ImageError(f"{image}: {loaded.failed[0].reason}")
    return loaded.views[0]


def _scale(student: Student) -> Scale:
    if student.metadata is not None and student.metadata.unit != "none":
        # Metric targets do not make a metric student: the loss divides both sides by their size.
        return Scale(source="the loss leaves it free, though the targets were metric")
    return Scale()


def _facts(student: Student) -> tuple[str, ...]:
    if student.metadata is None:
        return ()
    facts = [f"student: {student.metadata.preset}, teacher {student.metadata.teacher}"]
    facts += [f"license: {license}" for license in student.metadata.licenses]
    return tuple(facts)
