"""The contract that students and teachers share: views of a sample in, point maps out."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from distill3r_core.report import Progress
from distill3r_core.types import PreparedView, RawMaps, View


@runtime_checkable
class StepCallback(Protocol):
    """Called between the steps of a prediction.

    An exception that it raises ends the prediction and leaves the model as it was, so that the
    next prediction is not affected. This is how a caller stops one (see `core.interrupts`).
    """

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Receive the progress of a phase.

        Args:
            phase: Name of the phase, such as "encoder" or "alignment".
            done: Steps of the phase that are finished; 0 where it begins.
        """
        ...


def ignore_steps(phase: str, done: int, total: int) -> None:
    """Default `StepCallback`: do nothing."""


def phases(progress: Progress, label: str) -> StepCallback:
    """A callback of `phase, done, total` that reports each phase as one of its own.

    Args:
        label: Stands before the names of the phases.
    """
    at: dict[str, Any] = {"phase": "", "done": 0}

    def on_step(phase: str, done: int, total: int) -> None:
        if phase != at["phase"]:
            progress.begin(f"{label} {phase}", total=total, unit=phase)
            at.update(phase=phase, done=0)
        steps = done - at["done"]
        if steps > 0:
            progress.advance(steps)
            at["done"] = done

    return on_step


@runtime_checkable
class Predictor(Protocol):
    """Any model that can be run, scored and timed on the views of a sample.

    Attributes:
        name: Name of the model, as the user types it.
        licenses: Licenses of the weights; what is made with them inherits all of these.
        metric: Points are in meters wherever the unit of the views is a length.
        max_views: Largest number of views of one sample; None: as many as memory holds.
    """

    @property
    def name(self) -> str: ...
    @property
    def licenses(self) -> tuple[str, ...]: ...
    @property
    def metric(self) -> bool: ...
    @property
    def max_views(self) -> int | None: ...

    def prepare(self, view: View) -> PreparedView:
        """Resize and crop a view to the model's input size.

        Raises:
            ImageError: Nothing is left of the image after the crop.
            InputMissingError: The view lacks what the model needs, such as depth.
        """
        ...

    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """Predict the maps of all views of one sample together.

        Args:
            views: Views of one sample; the first is the anchor, whose camera's frame is global.
            on_progress: Called between steps; may raise in order to stop.

        Returns:
            Maps in the order of the views, each of the size of its view, on the CPU.

        Raises:
            RequestError: There are more views than `max_views`.
        """
        ...
