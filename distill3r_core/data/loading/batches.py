"""Which samples make up which step, and what a step's samples are.

The order is a pure function of the seed: a run that is resumed, that is spread over more
processes, or that had to make its micro-batches smaller sees the same samples in the same steps.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from distill3r_core.types import TeacherTargets

_ORDER = 0x0D4A  # tells the random numbers of the order from those of the draws


@dataclass(frozen=True)
class Draw:
    """One use of a sample.

    Args:
        number: How many draws the run made before this one; with the seed it decides everything
            that is random about this use.
    """

    name: str
    number: int


@dataclass(frozen=True)
class Batch:
    """Samples of one size with equally many views.

    Args:
        colors: Factors for the colors, see `augment.draw_colors`; None: as they are.
        features: Stored features of the teacher by layer, where a loader was to read them.
    """

    images: UInt8[Tensor, "B N 3 H W"]  # RGB
    targets: TeacherTargets
    view_numbers: Int[Tensor, "B N"]  # number of each view among those the student tells apart
    colors: Float[Tensor, "B N 5"] | None
    draws: tuple[Draw, ...]
    features: Mapping[str, Float[Tensor, "B N _h _w _C"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.draws)

    def rows(self, start: int, stop: int) -> "Batch":
        """Some of its samples."""
        taken = slice(start, stop)
        return Batch(
            images=self.images[taken],
            targets=map_targets(self.targets, lambda values: values[taken]),
            view_numbers=self.view_numbers[taken],
            colors=None if self.colors is None else self.colors[taken],
            draws=self.draws[taken],
            features={layer: values[taken] for layer, values in self.features.items()},
        )

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""

        def move(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True)

        return Batch(
            images=move(self.images),
            targets=map_targets(self.targets, move),
            view_numbers=move(self.view_numbers),
            colors=None if self.colors is None else move(self.colors),
            draws=self.draws,
            features={layer: move(values) for layer, values in self.features.items()},
        )


@runtime_checkable
class Samples(Protocol):
    """A step's samples, wherever they wait: in a loader's memory, or finished as a `Batch`."""

    @property
    def draws(self) -> tuple[Draw, ...]: ...
    def __len__(self) -> int: ...
    def rows(self, start: int, stop: int) -> "Samples":
        """Some of them."""
        ...

    def to(self, device: torch.device) -> Batch:
        """Finished, on a device; asynchronous where they lie in pinned memory."""
        ...


@dataclass(frozen=True)
class Portion:
    """Samples that are drawn with a weight of their own, whatever their number."""

    names: Sequence[str]
    weight: float  # above 0, relative to the other portions


def step_draws(
    buckets: Mapping[object, Sequence[str]],
    *,
    size: int,
    seed: int,
    shuffle: bool = True,
    portions: Sequence[Portion] = (),
) -> Iterator[tuple[Draw, ...]]:
    """The draws of every step, without end.

    Every epoch draws each sample once. A step's samples share a bucket, so that they fit into one
    tensor however the step is cut into micro-batches; what does not fill a step waits for the
    next epoch, so that a bucket smaller than a step is filled by drawing its samples again.

    Args:
        buckets: Names of samples by whatever they must have in common (size, number of views).
        seed: Seed of the order.
        shuffle: Whether the order is random; otherwise it is the one given.
        portions: All samples by how often they are drawn: of any number of draws, each portion
            has its share by weight, and draws its own samples equally often. Empty: every sample
            is drawn as often as any other.
    """
    members = [(key, name) for key, names in buckets.items() for name in names]
    assert members, "nothing to draw from"
    if portions:
        places = {name: place for place, (_, name) in enumerate(members)}
        groups = [[places[name] for name in portion.names] for portion in portions]
        order = _by_weight(groups, [portion.weight for portion in portions], seed, shuffle)
    else:
        order = _again_and_again(range(len(members)), [_ORDER, seed], shuffle)
    waiting: dict[object, list[Draw]] = {key: [] for key in buckets}
    for number, place in enumerate(order):
        key, name = members[place]
        waiting[key].append(Draw(name, number))
        if len(waiting[key]) == size:
            yield tuple(waiting[key])
            waiting[key] = []


def _again_and_again(places: Sequence[int], seeds: list[int], shuffle: bool) -> Iterator[int]:
    """Every place once per epoch, each epoch in another order."""
    for epoch in itertools.count():
        order = np.arange(len(places))
        if shuffle:
            order = np.random.default_rng([*seeds, epoch]).permutation(len(places))
        for index in order:
            yield places[int(index)]


def _by_weight(
    groups: Sequence[Sequence[int]], weights: Sequence[float], seed: int, shuffle: bool
) -> Iterator[int]:
    """Places of several groups, mixed by weight as evenly as whole draws allow.

    The next draw goes to the group with the fewest draws for its weight (Webster's method of
    apportionment), so that shares hold over any stretch of a run, not on average only.
    """
    streams = [
        _again_and_again(group, [_ORDER, seed, 1 + index], shuffle)
        for index, group in enumerate(groups)
    ]
    drawn = [0] * len(groups)
    while True:
        chosen = min(range(len(groups)), key=lambda index: (2 * drawn[index] + 1) / weights[index])
        drawn[chosen] += 1
        yield next(streams[chosen])


def share_of(draws: Sequence[Draw], *, rank: int, processes: int) -> tuple[Draw, ...]:
    """The part of a step's draws that one of several processes computes."""
    each, rest = divmod(len(draws), processes)
    assert rest == 0, "a step does not divide by the number of processes"
    return tuple(draws[rank * each : (rank + 1) * each])


def rng_of(draw: Draw, *, seed: int) -> np.random.Generator:
    """The random numbers of one draw."""
    return np.random.default_rng([seed, draw.number])


def map_targets(targets: TeacherTargets, change: Callable[[Tensor], Tensor]) -> TeacherTargets:
    """The targets with `change` applied to every tensor that is there."""
    return join_targets([targets], lambda values: change(values[0]))


def join_targets(
    several: Sequence[TeacherTargets], join: Callable[[Sequence[Tensor]], Tensor]
) -> TeacherTargets:
    """Several targets as one, tensor by tensor; global maps or cameras that one lacks, all lack."""

    def joined(name: str) -> Tensor:
        return join([getattr(targets, name) for targets in several])

    def local_only(targets: TeacherTargets) -> Tensor:
        known = targets.local_only
        whole = targets.valid_mask
        return whole.new_zeros(whole.shape[:-2]) if known is None else known

    some = any(targets.local_only is not None for targets in several)
    stored = all(targets.stored_points_global is not None for targets in several)
    cameras = all(targets.intrinsics is not None for targets in several)
    return TeacherTargets(
        points_local=joined("points_local"),
        confidence_local=joined("confidence_local"),
        confidence_global=joined("confidence_global"),
        valid_mask=joined("valid_mask"),
        global_from_local=joined("global_from_local"),
        stored_points_global=joined("stored_points_global") if stored else None,
        intrinsics=joined("intrinsics") if cameras else None,
        local_only=join([local_only(targets) for targets in several]) if some else None,
    )
