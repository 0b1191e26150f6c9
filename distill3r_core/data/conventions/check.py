"""Whether depth, poses and intrinsics of a scene fit together, and which usual mistake they show.

Depth is carried from frame to frame (`geometry.depth_agreement`). Neighboring frames agree
whatever is wrong, so the pairs turn by 10 degrees or more where the scene has such pairs.
"""

import contextlib
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from distill3r_core.data.conventions.pairs import choose_pairs, turns
from distill3r_core.data.conventions.readings import Conventions
from distill3r_core.data.conventions.stored_views import StoredView, ViewPair, median_agreement
from distill3r_core.data.frame_reader import read_stored_depth, read_stored_pose
from distill3r_core.data.layouts.records import Frame
from distill3r_core.errors import ImageError

CLEAR_MARGIN = 0.15  # gain in agreement that proves a mistake; counts: docs/manifest.md
POOR_AGREEMENT = 0.55  # below it something is wrong; good real data stay above 0.7
_FINE_TOLERANCE = 0.01  # tells neighboring candidates apart
_TIE = 0.05  # candidates as close as this to the best are distinguished by the fine tolerance
# Depth units in a meter: meters, centimeters, KITTI, millimeters, quarters and fifths of one,
# Replica, tenths.
_DEPTH_SCALES = (1, 10, 100, 250, 256, 500, 1000, 2000, 4000, 5000, 6553.5, 8000, 10000)
_SCANNED = np.geomspace(1, 65535, 160)  # where none of them explains: steps of 7 percent


@dataclass(frozen=True)
class ConventionVerdict:
    """Outcome of the check of one scene.

    Args:
        agreement: Median share of carried pixels whose depth agrees within 5 percent.
        pairs: Number of pairs of frames.
        turns: Smallest and largest turn between the frames of a pair, in degrees.
        remedy: Conventions under which the data agree clearly better; None: there are none.
        remedied: Agreement under `remedy`.
    """

    agreement: float
    pairs: int
    turns: tuple[float, float]
    remedy: Conventions | None = None
    remedied: float = 0.0

    @property
    def contradicts(self) -> bool:
        """Whether a mistake is proven, or the data agree poorly."""
        return self.remedy is not None or self.agreement < POOR_AGREEMENT


def check_conventions(frames: Sequence[Frame]) -> ConventionVerdict | None:
    """Check the conventions of a scene; None where no two frames can be compared."""
    posed = []
    for frame in frames:
        if frame.depth is None or frame.rig is None:
            continue
        with contextlib.suppress(ImageError):  # the frame is refused for it when it is read
            if (pose := read_stored_pose(frame)) is not None:
                posed.append((frame, pose))
    if len(posed) < 2:
        return None

    @functools.cache
    def view(index: int) -> StoredView | None:
        frame, pose = posed[index]
        assert frame.depth is not None
        try:
            return StoredView(frame, read_stored_depth(frame.depth), pose)
        except ImageError:
            return None  # the frame is refused for it when it is read

    chosen = choose_pairs(np.stack([pose for _, pose in posed]), view)
    pairs = [(first, second) for i, j in chosen if (first := view(i)) and (second := view(j))]
    if not pairs:
        return None
    turned = [float(turns(first.pose, second.pose[None])[0]) for first, second in pairs]
    given = median_agreement(pairs, Conventions())
    verdict = ConventionVerdict(given, len(pairs), (min(turned), max(turned)))
    remedy, remedied = _best_remedy(pairs, given)
    if remedied >= max(given + CLEAR_MARGIN, POOR_AGREEMENT):
        return replace(verdict, remedy=remedy, remedied=remedied)
    return verdict


def _best_remedy(pairs: Sequence[ViewPair], given: float) -> tuple[Conventions, float]:
    """The conventions with the best agreement: one mistake if it suffices, else several."""
    first = pairs[0][0]
    poses, sizes = list(first.other_poses()), list(first.other_sizes())
    scales = [
        Conventions(depth_scale=float(scale))
        for scale in _DEPTH_SCALES
        if scale != first.depth_scale
    ]
    best, agreement = _best(pairs, [*poses, *scales, *sizes])
    if max(given, agreement) >= POOR_AGREEMENT + CLEAR_MARGIN:
        return best, agreement
    several = [
        joined
        for parts in itertools.product(*([Conventions(), *one] for one in (poses, scales, sizes)))
        if (joined := _joined(parts)) not in (Conventions(), *poses, *scales, *sizes)
    ]
    scanned = [Conventions(depth_scale=float(f"{scale:.3g}")) for scale in _SCANNED]
    for others in (several, scanned):
        other, better = _best(pairs, others)
        if better >= max(agreement + CLEAR_MARGIN, POOR_AGREEMENT):
            return other, better
    return best, agreement


def _best(
    pairs: Sequence[ViewPair], candidates: Sequence[Conventions]
) -> tuple[Conventions, float]:
    """The candidate with the best agreement."""
    medians = {candidate: median_agreement(pairs, candidate) for candidate in candidates}
    top = max(medians.values())
    close = [candidate for candidate, median in medians.items() if median >= top - _TIE]
    best = max(close, key=lambda one: median_agreement(pairs, one, tolerance=_FINE_TOLERANCE))
    return best, medians[best]


def _joined(parts: Sequence[Conventions]) -> Conventions:
    given = {
        name: value for part in parts for name, value in vars(part).items() if value is not None
    }
    return Conventions(**given)
