"""From the errors of views to the figures of sequences and of a data set."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import FailedError, GeometryError
from distill3r_core.geometry.metrics import ViewErrors, summarize_scales, view_errors

PER_HUNDRED = 100  # metres to the centimetres that tables print


@dataclass(frozen=True)
class SequenceScore:
    """The errors of a sequence's views."""

    name: str
    views: tuple[ViewErrors, ...]

    def metrics(self) -> dict[str, float]:
        """The figures of this sequence, as `mean_metrics` names them."""
        return mean_metrics([self])


def score_sequence(
    name: str,
    predicted: Float[Tensor, "N H W 3"],
    truth: Float[Tensor, "N H W 3"],
    mask: Bool[Tensor, "N H W"],
    *,
    view_names: Sequence[str],
    on_view: Callable[[], None] = lambda: None,
) -> SequenceScore:
    """Score a sequence view by view.

    Args:
        name: Of the sequence.
        predicted: Each view in any frame and unit.
        truth: Each view in its camera's frame.
        mask: Where the truth is known.
        view_names: For messages.
        on_view: Called after every view: one takes a second on a fine grid.

    Raises:
        FailedError: The prediction of a view cannot be scored; names the view.
    """
    errors = []
    for view, view_name in enumerate(view_names):
        try:
            errors.append(view_errors(predicted[view], truth[view], mask[view]))
        except GeometryError as error:
            raise FailedError(f"{name}, {view_name}: {error}") from error
        on_view()
    return SequenceScore(name, tuple(errors))


def mean_metrics(sequences: Sequence[SequenceScore]) -> dict[str, float]:
    """The figures of a data set: means over views, then over sequences.

    Args:
        sequences: At least one, each with at least one view.

    Returns:
        `acc` and `comp` in hundredths of the truth's unit; `scale` and what belongs to it in
        units of truth per unit of prediction:
        `scale` is the geometric mean, `scale_mean` the arithmetic one that the paper prints,
        `scale_log_spread` the deviation of log(scale) over sequences and
        `scale_log_spread_views` that over the views of a sequence, `scale_log_error` the mean of
        |log(scale)|, `scale_norm` the geometric mean of the ratio of median norms, which does not
        shrink as errors grow.
    """
    per_sequence = [summarize_scales([view.scale for view in s.views]) for s in sequences]
    over = summarize_scales([scales.geometric_mean for scales in per_sequence])
    norms = [summarize_scales([view.norm_ratio for view in s.views]) for s in sequences]
    return {
        "acc": PER_HUNDRED * _mean(_mean(v.accuracy for v in s.views) for s in sequences),
        "comp": PER_HUNDRED * _mean(_mean(v.completeness for v in s.views) for s in sequences),
        "scale": over.geometric_mean,
        "scale_mean": _mean(scales.arithmetic_mean for scales in per_sequence),
        "scale_log_spread": over.log_spread,
        "scale_log_spread_views": _mean(scales.log_spread for scales in per_sequence),
        "scale_log_error": over.log_error,
        "scale_norm": summarize_scales([n.geometric_mean for n in norms]).geometric_mean,
    }


def units(unit: str) -> dict[str, str]:
    """The unit of every figure.

    Args:
        unit: Of the truth: "m", or "none" where it has no known unit.
    """
    length, factor = ("cm", "m per unit") if unit == "m" else ("0.01 units of truth", "ratio")
    return {
        "acc": length,
        "comp": length,
        "scale": factor,
        "scale_mean": factor,
        "scale_log_spread": "log",
        "scale_log_spread_views": "log",
        "scale_log_error": "log",
        "scale_norm": factor,
    }


def as_plain(sequences: Sequence[SequenceScore]) -> list[dict[str, Any]]:
    """Sequences as plain data for a result file."""
    return [{"name": s.name, "views": len(s.views), "metrics": s.metrics()} for s in sequences]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)
