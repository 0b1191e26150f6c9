"""Predicted and true depth side by side, for a person to judge what the figures mean."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.scores import SequenceScore, metrics_of
from distill3r_core.evaluation.truth import Truth
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.types import RawMaps

MAX_ROWS = 6  # views that are drawn
_HEADINGS = ("photo", "predicted depth", "true depth", "difference")
# The first of these that a protocol measures by view ranks views.
_ERRORS = ("abs_rel", "acc", "location_median")
# What is written below a view, where measured by view.
_CAPTION = ("acc", "comp", "abs_rel", "location_median", "location_rotation_median")


@dataclass(frozen=True, order=True)
class DrawnView:
    """A view as panels.

    Args:
        error: By which views are ranked; infinite where it is not a number.
    """

    error: float
    order: int  # of the views so far; breaks ties
    panels: tuple[np.ndarray, ...] = field(compare=False)
    caption: str = field(compare=False)


@dataclass
class ViewGallery:
    """Views to show of an evaluation: some of the first sequence, and the worst of all."""

    protocol: Protocol
    typical: list[DrawnView] = field(default_factory=list)
    worst: list[DrawnView] = field(default_factory=list)  # a heap, the best of them first
    _count: int = 0

    def add(self, truth: Truth, maps: RawMaps, score: SequenceScore) -> None:
        """Take what is to be shown of a sequence.

        Args:
            maps: Its prediction; brought to the truth's unit by the ratio of median depths.
            score: Its score.
        """
        views, errors = len(truth.view_names), _errors(score)
        first = not self.typical
        spread = np.unique(np.linspace(0, views - 1, min(MAX_ROWS, views)).round().astype(int))
        for view in range(views):
            error = errors[view] if np.isfinite(errors[view]) else np.inf
            bad = len(self.worst) < MAX_ROWS or error > self.worst[0].error
            self._count += 1
            if not bad and not (first and view in spread):
                continue
            drawn = DrawnView(
                error,
                self._count,
                _panels(truth, maps, view),
                self._caption(truth, score, view),
            )
            if first and view in spread:
                self.typical.append(drawn)
            if bad:
                push = heapq.heappush if len(self.worst) < MAX_ROWS else heapq.heapreplace
                push(self.worst, drawn)

    @property
    def worst_views(self) -> list[str]:
        """Name and errors of each of the worst views, the worst first."""
        return [view.caption for view in sorted(self.worst, reverse=True)]

    def write(self, typical: Path, worst: Path) -> None:
        """Write both images."""
        for path, views in ((typical, self.typical), (worst, sorted(self.worst, reverse=True))):
            image = compose(
                [list(view.panels) for view in views],
                headings=_HEADINGS,
                captions=[view.caption for view in views],
            )
            write_image(path, image)

    def _caption(self, truth: Truth, score: SequenceScore, view: int) -> str:
        """Name of a view, with its figures where the protocol has any of single views."""
        figures = []
        for metric in metrics_of(self.protocol):
            values = score.values[metric.name]
            if values is None or len(values) != score.views or score.views == 1:
                continue
            if metric.name in _CAPTION:
                figures.append(
                    f"{metric.heading} {metric.unit.factor * values[view]:{metric.format}}"
                )
        name = f"{truth.name} {truth.view_names[view]}"
        return f"{name}: {', '.join(figures)}" if figures else name


def _errors(score: SequenceScore) -> Sequence[float]:
    for name in _ERRORS:
        values = score.values.get(name)
        if values is not None and len(values) == score.views:
            return values
    return [0.0] * score.views


def _panels(truth: Truth, maps: RawMaps, view: int) -> tuple[np.ndarray, ...]:
    mask = truth.mask[view].numpy()
    true, mine = truth.points[view, ..., 2].numpy(), maps.points_local[view][..., 2].numpy()
    if mask.any():
        mine = mine * (np.median(true[mask]) / np.median(mine[mask]))
        span = limits(true, mask)
    else:  # a protocol of poses alone keeps views without true depth
        span = limits(mine)
    photo = (truth.views[view].image * 255).round().byte()
    return (
        photo.movedim(0, -1).numpy(),
        colorize(mine, table="depth", span=span),
        colorize(true, table="depth", span=span, mask=mask),
        colorize(
            np.abs(mine - true),
            table="confidence",
            span=(0.0, (span[1] - span[0]) / 4),
            mask=mask,
        ),
    )
