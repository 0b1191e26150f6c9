"""COLMAP on the sequences of an evaluation: announced before it starts, and kept."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np
from jaxtyping import UInt8

from distill3r_core.evaluation.baselines.solved_images import (
    digest_of_images,
    load_solved,
    save_solved,
)
from distill3r_core.evaluation.predictions import Unpredicted
from distill3r_core.evaluation.truth import SourceView, Truth
from distill3r_core.geometry.structure_from_motion import (
    FEW_IMAGES,
    SolvedImage,
    SolverCamera,
    pairs_of,
    solve_images,
)
from distill3r_core.io.images.resize import resize_image
from distill3r_core.prediction import phases
from distill3r_core.report import Progress

MAX_VIEWS = FEW_IMAGES  # of a sequence; all pairs are matched, and more take many minutes

# CPU-seconds of a shared AMD EPYC, measured on 8 and 24 frames of 640x480 and 5 photographs of
# 1024x769: features of a megapixel; a pair, by the product of its megapixels; mapping, by the
# megapixels of all images times their number.
_FEATURES, _PAIR, _MAPPING = 2.0, 0.55, 0.04
_BUSY = 4  # times as long may it take on other machines, and beside other work
_OFF = 2  # a time left is said again once it is so many times what was said


@dataclass
class SolverTimes:
    """Measured times of sequences, and what has been said of those to come.

    Args:
        reached: Views of all sequences so far, of those that were kept or left out too.
        solved: Views of the sequences that were solved.
        seconds: That these took.
        said: Time left that was said last.
        said_at: `seconds` when it was said.
    """

    reached: int = 0
    solved: int = 0
    seconds: float = 0.0
    said: float = 0.0
    said_at: float = 0.0

    def add(self, views: int, seconds: float) -> None:
        """Count a sequence that was solved."""
        self.solved += views
        self.seconds += seconds

    def to_say(self, views: int) -> float:
        """Time for views that are left, as those so far took; 0 where that is known from before."""
        left = views * self.seconds / self.solved
        known = self.said - (self.seconds - self.said_at)
        if known / _OFF <= left <= known * _OFF:
            return 0.0
        self.said, self.said_at = left, self.seconds
        return left


@dataclass
class ColmapSolver:
    """Solves sequences by COLMAP, each set of images and cameras once.

    Args:
        folder: Where results are kept, by a hash of images and cameras.
        progress: Reports features, pairs and placed images.
        views: Of all sequences.
        max_views: Longer sequences are left out; None: none is.
        times: What is known of the time that it takes.
    """

    folder: Path
    progress: Progress
    views: int
    max_views: int | None = MAX_VIEWS
    times: SolverTimes = field(default_factory=SolverTimes)

    def solve(self, truth: Truth) -> dict[int, SolvedImage] | Unpredicted:
        """COLMAP's cameras of a sequence's views, by index.

        A K that is one value for all cameras of a kind is where an estimate starts; where none is
        known, one focal length for the images of a size is estimated; others are kept.

        Returns:
            At least two views, or why there are none.
        """
        self.times.reached += len(truth.view_names)
        if (problem := self._problem(truth)) is not None:
            return Unpredicted(problem)
        cameras = [_camera_of(source) for source in truth.sources]
        path = self.folder / f"{digest_of_images(truth.sources, cameras)}.json"
        solved = load_solved(path)
        if solved is None:
            self._announce(truth, cameras)
            begun = perf_counter()
            solved = solve_images(
                (
                    (_at_size(source, camera.size), camera)
                    for source, camera in zip(truth.sources, cameras, strict=True)
                ),
                on_step=phases(self.progress, f"{truth.name}: COLMAP"),
            )
            self.times.add(len(cameras), perf_counter() - begun)
            if len(solved) >= 2:  # else another try may find more
                self._keep(path, solved)
        if len(solved) < 2:
            return Unpredicted(f"COLMAP placed {len(solved)} of {len(cameras)} views")
        return solved

    def _problem(self, truth: Truth) -> str | None:
        """Why COLMAP does not run on a sequence; None: it does."""
        count = len(truth.view_names)
        if truth.poses is None:
            return "no true poses to compare with"
        if count < 2:
            return "one view alone has no pose"
        if self.max_views is not None and count > self.max_views:
            return f"over {self.max_views} views; --colmap runs COLMAP all the same"
        if not truth.sources:
            return "the images of its manifest are not there as they were"
        return None

    def _announce(self, truth: Truth, cameras: Sequence[SolverCamera]) -> None:
        """Say how long the first sequence may take, and of later ones what measured times tell."""
        if self.times.solved == 0:
            sizes = [camera.size for camera in cameras]
            least = expected_seconds(sizes, cores=os.cpu_count() or 1)
            self.progress.note(
                f"COLMAP's poses of {truth.name} ({len(sizes)} views): {_shown(least)} to "
                f"{_shown(_BUSY * least)}, once for these images; --no-colmap leaves it out"
            )
            return
        left = self.views - self.times.reached + len(cameras)
        if (seconds := self.times.to_say(left)) > 0:
            self.progress.note(
                f"COLMAP's poses: about {_shown(seconds)} for the {left} views left, as "
                f"{self.times.solved} took {_shown(self.times.seconds)}"
            )

    def _keep(self, path: Path, solved: dict[int, SolvedImage]) -> None:
        try:
            save_solved(path, solved)
        except OSError as error:
            # The result may go to another place, which is all that this evaluation needs.
            self.progress.note(f"COLMAP's poses are not kept: {error.strerror}: {self.folder}")


def _shown(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 60 else f"{math.ceil(seconds / 60)} min"


def expected_seconds(sizes: Sequence[tuple[int, int]], *, cores: int) -> float:
    """About how long COLMAP takes for a sequence whose pairs are all matched, on an idle machine.

    Args:
        sizes: Rows and columns of its images.
    """
    megapixels = [rows * columns / 1e6 for rows, columns in sizes]
    pairs = pairs_of(len(sizes), ordered=False)
    matching = sum(megapixels[first] * megapixels[second] for first, second in pairs)
    mapping = _MAPPING * sum(megapixels) * len(sizes)  # in one thread
    return (_FEATURES * sum(megapixels) + _PAIR * matching) / cores + mapping


def _at_size(source: SourceView, size: tuple[int, int]) -> UInt8[np.ndarray, "_ _ 3"]:
    image = source.view.image
    return image if image.shape[:2] == size else resize_image(image, size)


def _camera_of(source: SourceView) -> SolverCamera:
    view = source.view
    rows, columns, _ = view.image.shape
    return SolverCamera.of_image(
        (rows, columns), intrinsics=view.intrinsics, is_nominal=view.is_nominal
    )
