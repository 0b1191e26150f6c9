"""Predicted and true depth side by side, for a person to judge what the figures mean."""

from pathlib import Path

import numpy as np

from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.scores import SequenceScore, metrics_of
from distill3r_core.evaluation.truth import Truth
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.types import RawMaps

MAX_ROWS = 6  # views that are drawn, spread evenly over the sequence


def draw_views(
    path: Path, truth: Truth, maps: RawMaps, score: SequenceScore, protocol: Protocol
) -> Path:
    """Draw photo, predicted depth, true depth and their difference for some views.

    Args:
        maps: Its prediction; brought to the truth's unit by the ratio of median depths.
        score: Score of the same sequence, for the captions: what was measured view by view.
    """
    count = len(truth.view_names)
    rows, captions = [], []
    for view in np.unique(np.linspace(0, count - 1, min(MAX_ROWS, count)).round().astype(int)):
        mask = truth.mask[view].numpy()
        true, mine = truth.points[view, ..., 2].numpy(), maps.points_local[view][..., 2].numpy()
        mine = mine * (np.median(true[mask]) / np.median(mine[mask]))
        span = limits(true, mask)
        error = np.abs(mine - true)
        photo = (truth.views[view].image * 255).round().byte()
        rows.append(
            [
                photo.movedim(0, -1).numpy(),
                colorize(mine, table="depth", span=span),
                colorize(true, table="depth", span=span, mask=mask),
                colorize(error, table="confidence", span=(0.0, (span[1] - span[0]) / 4), mask=mask),
            ]
        )
        figures = []
        for metric in metrics_of(protocol):
            values = score.values[metric.name]
            if metric.describe and values is not None and len(values) == count:
                figures.append(f"{metric.heading} {metric.unit.factor * values[view]:.1f}")
        captions.append(f"{truth.view_names[view]}: {', '.join(figures)}")
    headings = ("photo", "predicted depth", "true depth", "difference")
    write_image(path, compose(rows, headings=headings, captions=captions))
    return path
