"""Predicted and true depth side by side, for a person to judge what the figures mean."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.scores import PER_HUNDRED, SequenceScore
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.stages.evaluate.truth import Truth

MOST_ROWS = 6  # views that are drawn, spread evenly over the sequence


def draw_views(
    path: Path, truth: Truth, predicted: Float[Tensor, "N H W 3"], score: SequenceScore
) -> Path:
    """Draw photo, predicted depth, true depth and their difference for some views.

    Args:
        path: Of the picture.
        truth: The sequence.
        predicted: Its points as the student gave them; brought to the truth's unit by the ratio
            of median depths.
        score: Of the same sequence, for the captions.
    """
    count = len(truth.view_names)
    rows, captions = [], []
    for view in np.unique(np.linspace(0, count - 1, min(MOST_ROWS, count)).round().astype(int)):
        mask = truth.mask[view].numpy()
        true, mine = truth.points[view, ..., 2].numpy(), predicted[view, ..., 2].numpy()
        mine = mine * (np.median(true[mask]) / np.median(mine[mask]))
        span = limits(true, mask)
        apart = np.abs(mine - true)
        rows.append(
            [
                truth.images[view].movedim(0, -1).numpy(),
                colorize(mine, table="depth", span=span),
                colorize(true, table="depth", span=span, mask=mask),
                colorize(apart, table="confidence", span=(0.0, (span[1] - span[0]) / 4), mask=mask),
            ]
        )
        errors = score.views[view]
        captions.append(
            f"{truth.view_names[view]}: Acc {PER_HUNDRED * errors.accuracy:.1f}, "
            f"Comp {PER_HUNDRED * errors.completeness:.1f}"
        )
    headings = ("photo", "predicted depth", "true depth", "difference")
    write_image(path, compose(rows, headings=headings, captions=captions))
    return path
