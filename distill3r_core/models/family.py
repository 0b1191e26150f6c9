"""The record of a student family: all that the rest of the program needs to know of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from distill3r_core.errors import WeightsError
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.spec import StudentSpec
from distill3r_core.models.student import HeadName, Student
from distill3r_core.nn.counts import MemoryEstimate, Part


@dataclass(frozen=True)
class ViewLimits:
    """How many views of a sample a student takes in one pass.

    Args:
        fixed: Number of views of a training sample, where a family cannot train on others.
    """

    minimum: int = 1
    maximum: int = 1000
    fixed: int | None = None


@runtime_checkable
class CountFlop(Protocol):
    """Counts the arithmetic and the memory traffic of one forward pass."""

    def __call__(
        self, spec: Any, views: int, size: tuple[int, int], *, head: HeadName = "both"
    ) -> tuple[Part, ...]:
        """The parts of a pass over `views` views of `size` (rows, columns)."""
        ...


@runtime_checkable
class EstimateMemory(Protocol):
    """Estimates the memory of a pass without gradients, beyond the weights."""

    def __call__(
        self,
        spec: Any,
        sizes: Sequence[tuple[int, int]],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        head_chunk: int | None = None,
        heads: int = 2,
    ) -> MemoryEstimate:
        """Bytes of a pass over views of these sizes (rows, columns).

        Args:
            device: Device of the pass; its chunks are taken where none is given.
            dtype: Type of the matrix products, see `lower_precision`.
            head_chunk: Views that go through a head at once.
            heads: Number of heads that are run, 1 or 2.
        """
        ...


@runtime_checkable
class ChooseChunk(Protocol):
    """Chooses how many views go through a head at once."""

    def __call__(
        self, spec: Any, size: tuple[int, int], device: torch.device, *, views: int
    ) -> int:
        """The largest chunk that is fast on the device, of `views` views of `size`."""
        ...


@dataclass(frozen=True)
class Cost:
    """What a pass of a family's students takes."""

    flop: CountFlop  # arithmetic and memory traffic by part
    memory: EstimateMemory  # memory of a pass without gradients
    head_chunk: ChooseChunk  # views that go through a head at once


@dataclass(frozen=True)
class Initializer:
    """Published weights that a fresh student can start from.

    Args:
        build: A student of that spec whose weights come from the file as far as they fit, the
            rest random. The file decides about the parts it fills.
    """

    name: str
    find: Callable[[], Path | None]  # the file on this machine; None where it is not there
    missing: Callable[[], WeightsError]  # the error that says which file goes where
    build: Callable[[Path, Any], Student]
    license: str  # license of the weights, which the student inherits


@dataclass(frozen=True)
class CheckpointFormat:
    """A checkpoint format of another project that holds students of a family.

    Args:
        suffixes: Suffixes of its files.
        read: Weights under our names, and description, of such a file.
        content: What `torch.save` writes into such a file; raises `RequestError` for a student
            that the format cannot hold.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], tuple[dict[str, Tensor], StudentMetadata]]
    content: Callable[[Mapping[str, Tensor], StudentMetadata], Mapping[str, Any]]


@dataclass(frozen=True)
class Family:
    """A kind of student.

    Args:
        recipe: Training settings that differ from the defaults; a preset's go over them.
        initializers: Weights that a fresh student can start from, by spec, the preferred first.
        published: Forward pass in the published order of operations, with the arguments of a
            student's `forward` after the student itself: the slow reference for the fast one.
            None where there is none.
        smallest: Side of the smallest view, by spec; None: the multiple.
        frame: What the global map is in: the frame of view 0's camera, or that of a scene which
            the student has learned. The latter's students have no local map; each view is placed
            by PnP.
        checkpoints: Formats of other projects that are read and written beside our own.
    """

    name: str
    spec: type[StudentSpec]
    build: Callable[[Any], Student]  # a student with random weights from a spec
    multiple: Callable[[Any], int]  # what both sides of a view must be multiples of, by spec
    cost: Cost  # what a pass takes
    views: ViewLimits = ViewLimits()
    smallest: Callable[[Any], int] | None = None
    frame: Literal["anchor", "scene"] = "anchor"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    initializers: Callable[[Any], Sequence[Initializer]] = lambda spec: ()
    published: Callable[..., Any] | None = None
    checkpoints: tuple[CheckpointFormat, ...] = ()
