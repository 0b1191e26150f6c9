"""Which frames of a data set a protocol scores, and which of them a model sees together."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class Window:
    """Frames that a model sees in one pass; the first is the anchor.

    Args:
        frames: Indices into the sequence's frames, in the order in which the model sees them.
    """

    name: str  # name in results: the sequence's, or one that begins with it
    sequence: str
    frames: tuple[int, ...]


@runtime_checkable
class FrameRule(Protocol):
    """Chooses the frames of a data set.

    Attributes:
        text: The rule in words, for result files.
    """

    @property
    def text(self) -> str: ...

    def __call__(
        self, layout: str, sequences: Mapping[str, Sequence[int | None]]
    ) -> Sequence[Window]:
        """Choose windows from all sequences.

        Args:
            layout: Name of the data set's layout.
            sequences: Names of sequences, in order; the numbers of their frames, None where a
                frame has none.
        """
        ...


@dataclass(frozen=True)
class NumberedFrames:
    """Frames whose own number is divisible by a stride: the same on a thinned copy.

    Args:
        strides: Stride by layout. Elsewhere every k-th frame, with the least k that leaves `most`.
        backwards: Layouts whose frames are seen from the last to the first.
    """

    strides: Mapping[str, int]
    most: int  # largest number of frames where a layout has no stride
    text: str
    backwards: frozenset[str] = frozenset()

    def __call__(
        self, layout: str, sequences: Mapping[str, Sequence[int | None]]
    ) -> Sequence[Window]:
        """One window per sequence."""
        stride = self.strides.get(layout)
        windows = []
        for name, numbers in sequences.items():
            if stride is None:
                step = max(1, -(-len(numbers) // self.most))
                frames = tuple(range(0, len(numbers), step))
            else:
                frames = tuple(
                    index
                    for index, number in enumerate(numbers)
                    if number is None or number % stride == 0
                )
            windows.append(Window(name, name, frames[::-1] if layout in self.backwards else frames))
        return windows


@dataclass(frozen=True)
class ConsecutiveFrames:
    """All frames, in windows of consecutive ones; the last window ends with the last frame.

    Args:
        size: Frames of a window; a shorter sequence is one window.
        as_samples: Of the validation frames of a run, as many as its samples have instead.
    """

    size: int
    text: str
    as_samples: bool = False

    def __call__(
        self, layout: str, sequences: Mapping[str, Sequence[int | None]]
    ) -> Sequence[Window]:
        """Windows of every sequence, in order."""
        windows = []
        for name, numbers in sequences.items():
            count = len(numbers)
            firsts = list(range(0, max(1, count - self.size + 1), self.size))
            if firsts[-1] + self.size < count:
                firsts.append(count - self.size)
            for first in firsts:
                frames = tuple(range(first, min(first + self.size, count)))
                shown = f"{name}/{first:06d}" if len(firsts) > 1 else name
                windows.append(Window(shown, name, frames))
        return windows


@dataclass(frozen=True)
class DisjointFrames:
    """All frames once, so many at a time; the last window of a sequence may be shorter."""

    size: int
    text: str

    def __call__(
        self, layout: str, sequences: Mapping[str, Sequence[int | None]]
    ) -> Sequence[Window]:
        """Windows of every sequence, in order."""
        windows = []
        for name, numbers in sequences.items():
            for first in range(0, len(numbers), self.size):
                frames = tuple(range(first, min(first + self.size, len(numbers))))
                shown = f"{name}/{first:06d}" if len(numbers) > self.size else name
                windows.append(Window(shown, name, frames))
        return windows


@dataclass(frozen=True)
class RandomFrames:
    """A fixed number of random frames of every sequence, from one random sequence of numbers.

    Args:
        count: Frames of a window; a shorter sequence is taken whole.
    """

    count: int
    seed: int
    text: str

    def __call__(
        self, layout: str, sequences: Mapping[str, Sequence[int | None]]
    ) -> Sequence[Window]:
        """One window per sequence, in the order of their names, frames in the order drawn."""
        numbers = np.random.RandomState(self.seed)
        windows = []
        for name in sorted(sequences):
            frames = len(sequences[name])
            if not frames:
                continue
            drawn = numbers.choice(frames, min(self.count, frames), replace=False)
            windows.append(Window(name, name, tuple(int(index) for index in drawn)))
        return windows


@dataclass(frozen=True)
class ShuffledFrames:
    """At most a number of frames of one sequence of each scene (Depth Anything 3).

    Args:
        sequences: Endings of the names of the sequences that are scored, by layout; elsewhere all.
    """

    most: int
    seed: int
    sequences: Mapping[str, tuple[str, ...]]
    text: str

    def __call__(
        self, layout: str, sequences: Mapping[str, Sequence[int | None]]
    ) -> Sequence[Window]:
        """One window per sequence, frames in order."""
        endings = self.sequences.get(layout)
        windows = []
        for name, numbers in sequences.items():
            if endings is not None and not name.endswith(endings):
                continue
            order = list(range(len(numbers)))
            if len(order) > self.most:
                random.Random(self.seed).shuffle(order)
                order = sorted(order[: self.most])
            windows.append(Window(name, name, tuple(order)))
        return windows


@dataclass(frozen=True)
class AllFrames:
    """All frames of every sequence."""

    text: str

    def __call__(
        self, layout: str, sequences: Mapping[str, Sequence[int | None]]
    ) -> Sequence[Window]:
        """One window per sequence."""
        return [
            Window(name, name, tuple(range(len(numbers)))) for name, numbers in sequences.items()
        ]
