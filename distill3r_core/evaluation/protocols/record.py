"""What a protocol fixes: frames, alignment, metrics, forms of pose errors, aggregation.

A figure means something only beside figures of the same protocol, so all that a reader could
vary is fixed here and written into every result.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, runtime_checkable
from typing import Protocol as TypingProtocol

from distill3r_core.evaluation.pose_metrics import VGGT, PoseRules
from distill3r_core.evaluation.protocols.alignments import Alignment
from distill3r_core.evaluation.protocols.frame_rules import FrameRule
from distill3r_core.evaluation.protocols.sequence_rules import SequenceRule
from distill3r_core.evaluation.test_data import TestData
from distill3r_core.evaluation.truth import TrueSurface
from distill3r_core.evaluation.view_truth import PrepareViews
from distill3r_core.report import Progress

Aggregation = Literal["sequences", "pooled", "categories"]
_AGGREGATIONS: dict[Aggregation, str] = {
    "sequences": "mean of the figures of sequences",
    "pooled": "values of all sequences pooled",
    "categories": "values pooled in each category, mean of categories",
}
_FITS = {"squash": "the whole image stretched to it", "crop": "cut out of the middle"}


@runtime_checkable
class DataReader(TypingProtocol):
    """Reads the ground truth of a data set that has a form of its own."""

    def __call__(self, root: Path, *, prepare: PrepareViews, progress: Progress) -> TestData:
        """Read a data set.

        Raises:
            InputMissingError: There is nothing of it at `root`.
        """
        ...


@runtime_checkable
class SurfaceReader(TypingProtocol):
    """Reads the true surface of a scene."""

    def __call__(self, root: Path, sequence: str) -> TrueSurface | None:
        """Read the surface that belongs to a sequence; None where the data set lacks it."""
        ...


@dataclass(frozen=True)
class PublishedRow:
    """Figures of one system, in our units.

    Args:
        grid: Rows and columns of its input, at which it was scored.
        figures: By metric.
    """

    system: str
    grid: tuple[int, int]
    figures: Mapping[str, float]

    @property
    def name(self) -> str:
        """The system with its grid, for tables."""
        return f"{self.system}, {self.grid[0]}x{self.grid[1]}"


@dataclass(frozen=True)
class Published:
    """Figures of other systems by their own authors, and the data that they belong to.

    Args:
        sequences: All sequences that were scored, by the last parts of their names.
        views: Number of views that were scored.
    """

    sequences: frozenset[str]
    views: int
    rows: tuple[PublishedRow, ...]

    def rows_beside(
        self, names: Collection[str], views: int, grid: tuple[int, int]
    ) -> tuple[PublishedRow, ...]:
        """The systems that were scored on the same sequences and views, at the same grid.

        Distances to the nearest point depend on the grid: figures of another do not compare.
        """
        if not self.fits(names, views):
            return ()
        return tuple(row for row in self.rows if row.grid == grid)

    def fits(self, names: Collection[str], views: int) -> bool:
        """Whether these are the sequences and views that the figures were measured on."""
        parts = len(next(iter(self.sequences)).split("/"))
        tails = sorted("/".join(name.split("/")[-parts:]) for name in names)
        return views == self.views and tails == sorted(self.sequences)


@dataclass(frozen=True)
class Protocol:
    """How a reconstruction is scored.

    Args:
        aggregation: A figure of the data set is reduced from the figures of its sequences; or
            the values of all sequences are pooled; or those of each category are, which is all
            but the last part of the names of sequences, and the figures of categories averaged.
        fit: How images come to `grid`.
        mask: Which pixels are compared, in words.
        poses: How poses are compared.
        sequences: Which sequences are left out, with a reason, before frames are chosen; None:
            none is.
        test_only: Whether only the test part of a data set's own split is scored.
        needs_depth: Whether a frame without valid depth is left out. Where only poses are
            compared, depth is not read.
        surface: Reads the true surface of a sequence's scene; None: none is needed.
        reader: Reads data that has a form of its own; None: any layout, by `frames`.
        rules: Further rules in words, for people and for the result file.
        columns: Names of metrics in the table that is shown; empty: all. The others are in the
            files, and shown with `-v`.
        source: Where frames come from without `--data`: the run's validation samples with the
            teacher's maps as the truth, or its validation frames with their own depth.
        by_data_set: Whether the data consist of data sets, the first part of the names of
            sequences, whose figures are in the result, too.
        published: By layout of the data set.
    """

    name: str  # what the user types
    frames: FrameRule  # which frames are scored, and which of them a model sees together
    alignment: Alignment  # which map is carried onto the truth, and how
    metrics: tuple[str, ...]  # names of metrics, in the order of tables
    grid: tuple[int, int]  # rows and columns of predictions that come from no model
    fit: Literal["squash", "crop"] = "squash"
    mask: str = "valid truth only, for both sides; no confidence"
    aggregation: Aggregation = "sequences"
    poses: PoseRules = VGGT
    sequences: SequenceRule | None = None
    test_only: bool = True
    needs_depth: bool = True
    reader: DataReader | None = None
    surface: SurfaceReader | None = None
    columns: tuple[str, ...] = ()
    source: Literal["validation", "held-out"] = "validation"
    rules: Mapping[str, str] = field(default_factory=dict)
    by_data_set: bool = False
    published: Mapping[str, Published] = field(default_factory=dict)

    def all_rules(self) -> dict[str, str]:
        """All that is fixed, rule by rule, in words."""
        return {
            "head": self.alignment.head,
            "alignment": self.alignment.text,
            "frames": self.frames.text,
            "input": f"{self.grid[0]}x{self.grid[1]} (rows x columns), {_FITS[self.fit]}; a "
            "student keeps its own size and fit",
            "mask": self.mask,
            **self.poses.words(),
            "aggregation": _AGGREGATIONS[self.aggregation],
            **self.rules,
        }
