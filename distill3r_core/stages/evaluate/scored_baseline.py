"""A baseline that is scored beside a model, sequence by sequence."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.baselines import BASELINES, Baseline
from distill3r_core.evaluation.baselines.colmap_solver import ColmapSolver
from distill3r_core.evaluation.baselines.training_frames import TrainingFrames
from distill3r_core.evaluation.predictions import Unpredicted, Unscaled
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.scores import (
    Figures,
    SequenceScore,
    figures_of,
    score_poses,
    score_sequence,
)
from distill3r_core.evaluation.truth import Truth
from distill3r_core.report import Progress
from distill3r_core.types import RawMaps

WITHOUT_RUN = "there is no run"


@dataclass
class ScoredBaseline:
    """A baseline and its scores so far.

    Args:
        training: Training frames of the run that is scored; None: there are none.
        same: The model that is scored is this baseline.
        colmap: Solves sequences by COLMAP; None: that is left out.
        without_training: Why there are no training frames, where there are none.
        scores: None for a sequence that it cannot predict.
        reasons: Why sequences are not predicted, or not in all of their views, by their names.
    """

    name: str
    training: TrainingFrames | None
    same: bool = False
    colmap: ColmapSolver | None = None
    without_training: str = WITHOUT_RUN
    scores: list[SequenceScore | None] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def record(self) -> Baseline:
        """What it is."""
        return BASELINES[self.name]

    @property
    def has_maps(self) -> bool:
        """Whether it predicts maps, which take the time of a model's to score."""
        missing = self.record.needs_run and self.training is None
        return self.record.predict is not None and not missing and not self.same

    def score(
        self,
        truth: Truth,
        maps: RawMaps,
        model: SequenceScore,
        protocol: Protocol,
        progress: Progress,
    ) -> None:
        """Score it on a sequence.

        Args:
            maps: Maps of the model beside it.
            model: That model's score.
        """
        if self.same:
            self.scores.append(model)
        elif self.record.predict is None:
            assert self.record.poses is not None, "a baseline predicts maps or poses"
            found = self.record.poses(truth, maps, self.colmap)
            if isinstance(found, Unpredicted):
                self._leave_out(truth, found)
                return
            self._score_placed(truth, maps, found, protocol)
        elif self.has_maps:
            guess = self.record.predict(truth, self.training)
            if isinstance(guess, Unpredicted):
                progress.advance(len(truth.view_names))
                self._leave_out(truth, guess)
                return
            scaled = not isinstance(guess, Unscaled)
            if not scaled:
                self.reasons[truth.name] = _without_unit(guess.reason)
            guess = guess if scaled else guess.placed
            score = score_sequence(truth, guess, protocol, scaled=scaled, on_view=progress.advance)
            self.scores.append(score)
        else:
            self._leave_out(truth, Unpredicted(self.without_training))

    def _score_placed(
        self,
        truth: Truth,
        maps: RawMaps,
        found: Float[Tensor, "N 3 4"] | Unscaled[Float[Tensor, "N 3 4"]],
        protocol: Protocol,
    ) -> None:
        """Score the model's maps where the baseline places them, or the poses alone."""
        reasons = []
        scaled = not isinstance(found, Unscaled)
        places = found if scaled else found.placed
        if missing := int(places.isnan().any(-1).any(-1).sum()):
            reasons.append(f"{len(places) - missing} of {len(places)} views are placed")
        if not scaled:
            reasons.append(_without_unit(found.reason))
        if reasons:
            self.reasons[truth.name] = "; ".join(reasons)
        placed = replace(maps, global_from_local=places, scene=None)
        self.scores.append(score_poses(truth, placed, protocol, scaled=scaled))

    def _leave_out(self, truth: Truth, why: Unpredicted) -> None:
        self.scores.append(None)
        self.reasons[truth.name] = why.reason

    def figures(self, protocol: Protocol) -> Figures | None:
        """Its figures; None where it cannot predict some sequence."""
        known: Sequence[SequenceScore] = [score for score in self.scores if score is not None]
        return figures_of(known, protocol) if known and len(known) == len(self.scores) else None


def _without_unit(reason: str) -> str:
    return f"maps and poses have no common unit: {reason}"
