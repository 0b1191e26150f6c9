"""From views to a reconstruction: forward pass, cameras, scale. The Python way in is here too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import UInt8

from distill3r_core.errors import ImageError, NothingUsableError
from distill3r_core.io.fit import Fit
from distill3r_core.io.sources import Source
from distill3r_core.models import Student
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.stages.infer.forward import Forward, predict
from distill3r_core.stages.infer.pictures import LoadedView, load_views, view_of_pixels
from distill3r_core.stages.infer.reconstruction import CloudSource, Reconstruction, Scale
from distill3r_core.stages.infer.scale import KnownPositions, apply_known, read_known
from distill3r_core.stages.infer.solve import PoseSource, solve
from distill3r_core.stages.student_file import fit_of

Image = str | Path | PIL.Image.Image | UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class Outcome:
    """A reconstruction, what the pass took, and what was left out or is worth saying."""

    scene: Reconstruction
    forward: Forward
    failed: tuple[Failure, ...]
    notes: tuple[str, ...]


def reconstruct(
    images: Sequence[Image],
    student: Student,
    *,
    fit: Fit | None = None,
    cloud: CloudSource = "aligned",
    poses: PoseSource = "similarity",
    scale_from: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reconstruction:
    """Reconstruct a scene from pictures.

    >>> scene = reconstruct(sorted(Path("photos").glob("*.jpg")), load_student("runs/small-001"))
    >>> scene.save("desk", ("ply", "glb", "colmap"))

    Args:
        images: Paths, Pillow's pictures, or upright RGB pixels; the first is the anchor.
        student: On the device where it is to run.
        fit: How pictures become its input; None: as it was trained.
        cloud: See `Reconstruction`.
        poses: See `solve`.
        scale_from: What makes lengths metric, as `infer --scale-from` takes it. Views of pixels
            are called `view_000`, `view_001` and so on.
        seed: Of every random choice.
        progress: Told of every step.

    Raises:
        ImageError: A picture cannot be used.
        NothingUsableError: There are no pictures, or no view has a camera.
        OutOfMemoryError: See `predict`.
    """
    if isinstance(images, str | Path):
        raise TypeError(f"images: a list of pictures is wanted, not {images!r}")
    if not len(images):
        raise NothingUsableError("no pictures to reconstruct from")
    fit = fit or fit_of(student)
    known = None if scale_from is None else read_known(scale_from)
    views = [_view(image, fit, index) for index, image in enumerate(images)]
    outcome = reconstruct_views(
        views, student, cloud=cloud, poses=poses, known=known, seed=seed, progress=progress
    )
    return outcome.scene


def reconstruct_views(
    views: Sequence[LoadedView],
    student: Student,
    *,
    cloud: CloudSource,
    poses: PoseSource,
    known: KnownPositions | None,
    seed: int,
    progress: Progress | None = None,
) -> Outcome:
    """Reconstruct a scene from fitted pictures.

    Raises:
        NothingUsableError: The student gives no number, or no view has a camera.
        OutOfMemoryError: See `predict`.
        RequestError: See `apply_known`.
    """
    progress = progress or Silent()
    forward = predict(student, views, progress=progress)
    if not any(np.isfinite(maps.points_local).any() for maps in forward.maps):
        raise NothingUsableError(
            "the student gives no number for any pixel: its weights are damaged, or its training "
            "left the range of numbers"
        )
    solved = solve(views, forward.maps, poses=poses, seed=seed, progress=progress)
    if not solved.views:
        lines = [f"  {failure.item}: {failure.reason}" for failure in solved.failed]
        raise NothingUsableError("\n".join(["no view has a camera:", *lines]))
    scene = Reconstruction(
        solved.views, scale=_scale(student), cloud_from=cloud, facts=_facts(student)
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
    loaded = load_views([Source(Path(image), "picture")], fit)
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
    facts += [f"licence: {licence}" for licence in student.metadata.licences]
    return tuple(facts)
