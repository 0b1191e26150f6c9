"""Which frames of a data set a protocol scores, and which of them a model sees together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


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
    """

    strides: Mapping[str, int]
    most: int  # largest number of frames where a layout has no stride
    text: str

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
            windows.append(Window(name, name, frames))
        return windows
