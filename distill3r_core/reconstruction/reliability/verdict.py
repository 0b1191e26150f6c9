"""Whether a reconstruction can be relied on: its checks against those of held-out samples."""

from dataclasses import dataclass
from typing import Any, Literal

from distill3r_core.models.reliability_calibration import ReliabilityCalibration

Level = Literal["good", "worse", "unreliable", "unknown"]

# Checks that need no calibration. Students that have learned their scene leave a misfit of 1 to 2 %
# and agree to 30 % and more; untrained ones leave 5 % and more, and agree by chance.
_MAX_MISFIT = 0.05
_MAX_SPREAD = 0.3
_MIN_AGREEMENT = 0.04
_GOOD_AGREEMENT = 0.2  # no reconstruction below it is good, whatever held-out samples showed
# A student whose depth of held-out views is no better than this share of a constant's error has
# learned nothing that a reconstruction could be measured by.
_MOST_OF_CONSTANT = 0.9


@dataclass(frozen=True)
class _Limit:
    """How many times the worst value of the held-out samples a check may be.

    Args:
        good: Up to here a reconstruction is as good as those.
        worse: Up to here it is worse; beyond it is unlike what the student has learned.
    """

    good: float
    worse: float


_NOVELTY = _Limit(1.15, 1.25)
# Of the first view alone, in whose camera's frame all others are: single images vary more. Held-out
# ones stay below 1.1, a black one is at 3.1.
_ANCHOR_NOVELTY = _Limit(1.5, 2.0)
_MISFIT = _Limit(1.3, 2.5)
_SPREAD = _Limit(1.3, 3.0)
_AGREEMENT = _Limit(1.25, float("inf"))  # sparser views agree less, and need not be wrong


@dataclass(frozen=True)
class MapChecks:
    """Measurements of a reconstruction that need no ground truth; medians over views or pairs.

    Args:
        misfit: Distance of pixels from the projection of their local points by the pinhole camera
            that fits them best, as a share of the long edge. None without local maps.
        spread: Distance between local points, carried by the similarity of their view, and global
            points, as a share of the view's depth. None where there is no local or no global map.
        agreement: Share of the points carried from one view into another whose depth agrees within
            5 % with the depth found there. None for a single view, or without poses.
        overlapping: Share of the pairs of views that see enough of each other to be compared.
        aligned: Share of the views that the refinement of poses could place. None: it was not run.
        anchor_aligned: Whether the first view, in whose frame all others are, is one of them.
        supported: Share of those views that, refined together, still agree in depth with the views
            that they align with half as much as an accepted pair must; see `RefinementSummary`.
    """

    misfit: float | None = None
    spread: float | None = None
    agreement: float | None = None
    overlapping: float | None = None
    aligned: float | None = None
    anchor_aligned: bool | None = None
    supported: float | None = None


@dataclass(frozen=True)
class Reliability:
    """The verdict on a reconstruction.

    Args:
        level: `good`: as on held-out samples. `worse`: worse than on those. `unreliable`: unlike
            what the student has learned, or maps that contradict each other. `unknown`: nothing
            contradicts it, but there is nothing to compare it with.
        reasons: Why, in words; at least one unless the level is `good`.
        checks: The measurements.
        novelty: Distance of the images from the training images, in standard deviations.
        anchor_novelty: The same of the first image alone.
    """

    level: Level
    reasons: tuple[str, ...]
    checks: MapChecks
    novelty: float | None = None
    anchor_novelty: float | None = None

    @property
    def text(self) -> str:
        """The level with its reasons, in one line."""
        return self.level + (f": {'; '.join(self.reasons)}" if self.reasons else "")

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        values = {
            **vars(self.checks),
            "novelty": self.novelty,
            "anchor_novelty": self.anchor_novelty,
        }
        known = {
            name: value if isinstance(value, bool) else round(value, 5)
            for name, value in values.items()
            if value is not None
        }
        return {"level": self.level, "reasons": list(self.reasons), "checks": known}


def judge(
    checks: MapChecks,
    novelty: float | None,
    calibration: ReliabilityCalibration | None,
    *,
    anchor_novelty: float | None = None,
) -> Reliability:
    """The level of a reconstruction.

    Args:
        checks: Its measurements.
        novelty: Distance of its images from the training images; None: not known.
        calibration: What held-out samples showed; None: there is no such record.
        anchor_novelty: Distance of its first image; None: not known, or no view is in its frame.
    """
    level, reasons = _level(checks, novelty, calibration, anchor_novelty)
    return Reliability(level, tuple(reasons), checks, novelty, anchor_novelty)


def _level(
    checks: MapChecks,
    novelty: float | None,
    calibration: ReliabilityCalibration | None,
    anchor_novelty: float | None,
) -> tuple[Level, list[str]]:
    broken = _contradictions(checks)
    if calibration is None:
        if broken:
            return "unreliable", broken
        return "unknown", ["the model has no calibration on held-out samples"]
    if calibration.depth_error > _MOST_OF_CONSTANT * calibration.constant_error:
        broken.append(
            f"the student has not learned depth: held-out views are off by "
            f"{calibration.depth_error:.0%}, a constant depth by {calibration.constant_error:.0%}"
        )
    ratios = _compare(checks, novelty, calibration, anchor_novelty)
    broken += [one.reason for one in ratios if one.ratio > one.limit.worse]
    if (
        checks.anchor_aligned is False
        and anchor_novelty is not None
        and calibration.novelty
        and anchor_novelty > _ANCHOR_NOVELTY.good * calibration.novelty
    ):
        broken.append(
            "the first image, in whose frame all others are, is unlike the training images and "
            "aligns with no other"
        )
    if broken:
        return "unreliable", broken
    worse = [one for one in ratios if one.ratio > one.limit.good]
    reasons = [one.reason for one in worse]
    if not reasons and checks.agreement is not None and checks.agreement < _GOOD_AGREEMENT:
        reasons.append(f"only {checks.agreement:.0%} of the depths of two views agree")
    if checks.aligned is not None and checks.aligned < 1:
        reasons.append(
            f"the images of {1 - checks.aligned:.0%} of the views align with no other; they keep "
            "the model's pose"
        )
    if checks.supported is not None and checks.supported < 1:
        share = f"{1 - checks.supported:.0%}" if checks.supported < 0.995 else "less than 1%"
        reasons.append(
            f"{share} of the aligned views no longer fit those that they align "
            "with once all are refined together"
        )
    if reasons:
        ratio = max((one.ratio for one in worse), default=1.0)
        expected = _expected(calibration, ratio, refined=checks.aligned == 1)
        return "worse", [expected, *reasons]
    return "good", []


def knows_depth(
    reliability: Reliability | None, calibration: ReliabilityCalibration | None
) -> bool:
    """Whether depth is as good as on held-out samples, as far as images and local maps show it.

    Poses are left out of account: what is asked is whether images can be aligned by that depth.
    """
    if reliability is None or calibration is None:
        return False
    checks = reliability.checks
    if calibration.depth_error > _MOST_OF_CONSTANT * calibration.constant_error:
        return False
    if checks.misfit is None or checks.misfit > _MAX_MISFIT:
        return False
    alone = _compare(
        MapChecks(misfit=checks.misfit),
        reliability.novelty,
        calibration,
        reliability.anchor_novelty,
    )
    return all(one.ratio <= one.limit.worse for one in alone)


def _contradictions(checks: MapChecks) -> list[str]:
    """Checks that fail whatever a student has learned."""
    found = []
    if checks.misfit is not None and checks.misfit > _MAX_MISFIT:
        found.append(
            f"the points fit no pinhole camera: pixels are {checks.misfit:.0%} of the long edge "
            "from where it sees their points"
        )
    if checks.spread is not None and checks.spread > _MAX_SPREAD:
        found.append(f"local and global maps differ by {checks.spread:.0%} of the depth")
    if checks.agreement is not None and checks.agreement < _MIN_AGREEMENT:
        found.append(
            "no two views see the same place"
            if checks.overlapping == 0
            else f"only {checks.agreement:.0%} of the depths of two views agree"
        )
    return found


@dataclass(frozen=True)
class _LimitComparison:
    ratio: float  # to the worst of what is known
    limit: _Limit
    reason: str


def _compare(
    checks: MapChecks,
    novelty: float | None,
    calibration: ReliabilityCalibration,
    anchor_novelty: float | None,
) -> list[_LimitComparison]:
    """Each check beside the worst of the known samples."""
    found = []
    if novelty is not None and calibration.novelty:
        reason = (
            f"the images are unlike the training images: {novelty:.2f} standard deviations away, "
            f"known ones at most {calibration.novelty:.2f}"
        )
        found.append(_LimitComparison(novelty / calibration.novelty, _NOVELTY, reason))
    if anchor_novelty is not None and calibration.novelty:
        reason = (
            "the first image, in whose frame all others are, is unlike the training images: "
            f"{anchor_novelty:.2f} standard deviations away"
        )
        ratio = anchor_novelty / calibration.novelty
        found.append(_LimitComparison(ratio, _ANCHOR_NOVELTY, reason))
    if checks.misfit is not None and calibration.misfit:
        reason = (
            f"the points fit a pinhole camera to {checks.misfit:.1%} of the long edge, held-out "
            f"ones to {calibration.misfit:.1%}"
        )
        found.append(_LimitComparison(checks.misfit / calibration.misfit, _MISFIT, reason))
    if checks.spread is not None and calibration.spread:
        reason = (
            f"local and global maps differ by {checks.spread:.0%} of the depth, those of held-out "
            f"samples by at most {calibration.spread:.0%}"
        )
        found.append(_LimitComparison(checks.spread / calibration.spread, _SPREAD, reason))
    if checks.agreement is not None and calibration.agreement is not None:
        reason = (
            f"{checks.agreement:.0%} of the depths of two views agree, of held-out samples at "
            f"least {calibration.agreement:.0%}"
        )
        ratio = calibration.agreement / max(checks.agreement, 1e-6)
        found.append(_LimitComparison(ratio, _AGREEMENT, reason))
    return found


def _expected(calibration: ReliabilityCalibration, ratio: float, *, refined: bool) -> str:
    """What error is to be expected: that of held-out samples, as many times as the checks are.

    Rotations of held-out samples are the student's own: refined ones are not measured by them.
    """
    parts = [f"{ratio * calibration.depth_error:.0%} of the depth"]
    if calibration.rotation_error is not None and not refined:
        parts.append(f"{ratio * calibration.rotation_error:.1f}° between views")
    return f"expect errors of about {' and '.join(parts)}"
