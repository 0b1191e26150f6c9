"""One pass of a model over all views of a scene, within the memory there is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.models.student import HeadName, Student
from distill3r_core.nn.progress import Stretch
from distill3r_core.prediction import Predictor, StepCallback, ignore_steps
from distill3r_core.profiling import AllocationError, memory_limits, peak_memory, stopwatch
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.prediction.memory_plan import (
    PassPlan,
    plan_pass,
    ran_out,
    require_count,
)
from distill3r_core.reconstruction.view_maps import Map, ViewMaps
from distill3r_core.report import Progress, Silent, counted
from distill3r_core.types import PointMap, RawMaps

_UNITS = {"encoder": "views", "fusion": "blocks", "heads": "maps"}  # of a student's phases


@dataclass(frozen=True)
class ForwardPass:
    """What a model predicted, and what the pass took.

    Args:
        estimate_bytes: Memory that the pass was expected to take beyond the weights; None: the
            model gives no estimate.
    """

    maps: tuple[ViewMaps, ...]  # one entry per view, in order
    seconds: float
    estimate_bytes: int | None
    peak_bytes: int  # the device's memory at its highest; on a CPU that of the process
    head_chunk: int | None  # views that went through a head at once; None: the model decides


def run_student(
    student: Student,
    views: Sequence[LoadedView],
    *,
    head: HeadName = "both",
    progress: Progress | None = None,
) -> ForwardPass:
    """Point maps of all views, in chunks that are expected to fit; smaller ones if they do not.

    Args:
        student: In evaluation mode, on its device.
        views: In order; the first is the anchor. Sizes may differ.
        progress: Reports the plan, the pass, and every smaller chunk that was needed.

    Raises:
        RequestError: See `plan_pass`.
        OutOfMemoryError: The smallest chunk does not fit.
    """
    progress = progress or Silent()
    plan = plan_pass(student, views, head=head)
    progress.note(plan.text)
    images = [image_tensor(view) for view in views]
    chunk = plan.head_chunk
    while True:
        done = _attempt(student, images, chunk, plan, head, progress)
        if done is not None:
            return done
        if chunk == 1:
            raise ran_out(student, [view.fitted.placement.size for view in views], head)
        chunk //= 2
        progress.note(
            f"out of memory: trying again with {counted(chunk, 'view')} at once in the heads"
        )
        if student.device.type == "cuda":
            torch.cuda.empty_cache()


def image_tensor(view: LoadedView) -> Float[Tensor, "3 H W"]:
    """The fitted image of a view as a network takes it: RGB in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(view.fitted.image)).movedim(-1, 0) / 255


def run_predictor(
    predictor: Predictor,
    views: Sequence[LoadedView],
    *,
    device: torch.device,
    sample: str = "scene",
    progress: Progress | None = None,
) -> ForwardPass:
    """Point maps of all views by any model.

    Args:
        views: Prepared by the model; in order, the first is the anchor.
        device: Where the model computes; its memory is measured.
        sample: Name of the scene, from which a model may draw its random numbers.

    Raises:
        RequestError: There are more views than the model takes.
        OutOfMemoryError: The pass does not fit.
    """
    require_views(predictor, len(views))
    prepared = []
    for index, view in enumerate(views):
        assert view.prepared is not None, "these views were loaded for another model"
        prepared.append(replace(view.prepared, sample=sample, index=index))
    try:
        with (
            memory_limits(),
            peak_memory(device) as peak,
            stopwatch(device) as watch,
            torch.inference_mode(),
        ):
            raw = predictor.predict(prepared, on_progress=PhaseProgress(progress or Silent()))
    except AllocationError as error:
        raise OutOfMemoryError(
            f"memory ran out in a pass of {predictor.name} over {counted(len(views), 'view')}",
            hint="take fewer views with --max-views",
        ) from error
    return ForwardPass(tuple(view_maps_of(raw)), watch.seconds, None, peak.bytes, None)


def require_views(predictor: Predictor, views: int) -> None:
    """Refuse more views than a model takes.

    Raises:
        RequestError: There are more.
    """
    require_count(views, predictor.max_views, predictor.name)


def view_maps_of(raw: RawMaps) -> list[ViewMaps]:
    """The maps of every view, as arrays.

    A point map knows no mask: points that the model declares invalid are NaN, which every later
    step leaves out, as it does the non-finite points of any model.
    """
    found = []
    for index, local in enumerate(raw.points_local):
        if raw.points_global is not None:
            world = raw.points_global[index]
        else:
            assert raw.global_from_local is not None, "a model gives global points or similarities"
            similarity = raw.global_from_local[index]  # float64 where it was solved for
            world = apply_similarity(similarity, local.to(similarity.dtype))
        if raw.valid_mask is not None:
            invalid = ~raw.valid_mask[index][..., None]
            local, world = (
                local.masked_fill(invalid, torch.nan),
                world.masked_fill(invalid, torch.nan),
            )
        found.append(
            ViewMaps(
                PointMap(world.float().numpy(), raw.confidence_global[index].float().numpy()),
                PointMap(local.float().numpy(), raw.confidence_local[index].float().numpy()),
                None if raw.intrinsics is None else raw.intrinsics[index].double().numpy(),
            )
        )
    return found


@dataclass
class PhaseProgress:
    """Shows the steps of a prediction as phases of a progress report."""

    progress: Progress
    _phase: str = ""
    _done: int = 0

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase:
            self._phase, self._done = phase, 0
            self.progress.begin(phase, total=total, unit=_UNITS.get(phase, "steps"))
        if done > self._done:
            self.progress.advance(done - self._done)
            self._done = done


class StudentSteps:
    """Reports a student's pass step by step.

    Args:
        on_step: Called with each phase, the steps done and their number.
    """

    def __init__(self, on_step: StepCallback, student: Student, views: int, head: HeadName) -> None:
        self._on_step = on_step
        totals = student.progress_totals(views, head)
        self._totals = {stretch: total for stretch, (total, _) in totals.items()}
        self._done = dict.fromkeys(self._totals, 0)

    def __call__(self, stretch: Stretch, count: int) -> None:
        self._done[stretch] += count
        self._on_step(stretch, self._done[stretch], self._totals[stretch])


def student_maps(
    student: Student,
    images: Sequence[Tensor],
    *,
    head: HeadName = "both",
    head_chunk: int | None = None,
    on_progress: StepCallback = ignore_steps,
) -> list[ViewMaps]:
    """A student's maps of every view, as arrays: here a network's tensors end."""
    steps = StudentSteps(on_progress, student, len(images), head)
    with torch.inference_mode():
        found = student(images, head=head, head_chunk=head_chunk, host=True, on_progress=steps)
        found = [student.placed(one) for one in found]
    return [ViewMaps(_as_arrays(one.global_map), _as_arrays(one.local_map)) for one in found]


def _attempt(
    student: Student,
    images: Sequence[Tensor],
    chunk: int,
    plan: PassPlan,
    head: HeadName,
    progress: Progress,
) -> ForwardPass | None:
    """The pass; None where it does not fit. What it had taken by then is free on return."""
    device = student.device
    try:
        with memory_limits(), peak_memory(device) as peak, stopwatch(device) as watch:
            maps = student_maps(
                student, images, head=head, head_chunk=chunk, on_progress=PhaseProgress(progress)
            )
    except AllocationError:
        return None
    return ForwardPass(tuple(maps), watch.seconds, plan.bytes, peak.bytes, chunk)


def _as_arrays(points: PointMap[Tensor] | None) -> Map | None:
    """The map of one view, without the batch axis; None where its head was not run."""
    if points is None:
        return None
    return PointMap(points.points[0].numpy(), points.confidence[0].numpy())
