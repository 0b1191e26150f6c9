"""The test part of a data set, read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill3r_core.data.conventions.check_data import DataCheck
from distill3r_core.evaluation.truth import Truth
from distill3r_core.report import Failure


@dataclass(frozen=True)
class TestData:
    """The test part of a data set.

    Args:
        truths: Gone through once. A large data set is read as it is gone through.
        views: Of all truths; a view that proves unusable as it is read is counted here.
        contents: Names and hashes of all that is scored, true surfaces included.
        failed: Sequences and frames left out because they cannot be used; complete when `truths`
            has been gone through.
    """

    layout: str
    truths: Iterable[Truth]
    views: int
    contents: Sequence[str]
    seen: int  # frames left out because the model was trained on them
    failed: Sequence[Failure]
    check: DataCheck  # how well depth and poses fit together
