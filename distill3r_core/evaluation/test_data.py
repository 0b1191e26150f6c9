"""The test part of a data set, read."""

from dataclasses import dataclass

from distill3r_core.data.conventions.check_data import DataCheck
from distill3r_core.evaluation.truth import Truth
from distill3r_core.report import Failure


@dataclass(frozen=True)
class TestData:
    """The test part of a data set."""

    layout: str
    truths: tuple[Truth, ...]
    seen: int  # frames left out because the model was trained on them
    failed: tuple[Failure, ...]  # frames left out because they cannot be used
    check: DataCheck  # how well depth and poses fit together
