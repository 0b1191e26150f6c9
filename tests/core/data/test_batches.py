"""The order of samples is a function of the seed, however the work is divided."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from distill3r_core.data.loading.batches import Portion, rng_of, share_of, step_draws

BUCKETS = {"wide": [f"wide-{n}" for n in range(7)], "tall": ["tall-0", "tall-1"]}


def first(count: int, *, size: int = 4, seed: int = 0, **options: bool) -> list:
    return list(islice(step_draws(BUCKETS, size=size, seed=seed, **options), count))


def test_a_step_has_one_bucket_and_every_sample_its_turn() -> None:
    steps = first(90)
    for step in steps:
        assert len({draw.name.split("-")[0] for draw in step}) == 1
    counts = Counter(draw.name for step in steps for draw in step)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_no_draw_is_made_twice() -> None:
    numbers = [draw.number for step in first(50) for draw in step]
    assert len(set(numbers)) == len(numbers)
    assert rng_of(first(1)[0][0], seed=0).random() != rng_of(first(1)[0][1], seed=0).random()


def test_a_bucket_smaller_than_a_step_is_drawn_again() -> None:
    only = list(islice(step_draws({"tall": ["a", "b"]}, size=5, seed=0), 3))
    assert all(Counter(d.name for d in step).most_common()[0][1] in (2, 3) for step in only)


def test_the_seed_decides_and_order_can_be_switched_off() -> None:
    assert first(20) == first(20)
    assert first(20) != first(20, seed=1)
    names = [d.name for d in first(1, size=7, shuffle=False)[0]]
    assert names == BUCKETS["wide"]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_a_step_without_overlap(processes: int) -> None:
    step = first(1)[0]
    parts = [share_of(step, rank=rank, processes=processes) for rank in range(processes)]
    assert tuple(draw for part in parts for draw in part) == step


@pytest.mark.parametrize("weights", [(2.0, 1.0), (0.3, 1.7), (1.0, 100.0)])
def test_portions_are_drawn_by_weight_over_any_stretch(weights: tuple[float, float]) -> None:
    names = {"a": [f"a{n}" for n in range(5)], "b": [f"b{n}" for n in range(3)]}
    portions = [Portion(names[key], weight) for key, weight in zip("ab", weights, strict=True)]

    def steps(seed: int) -> list:
        buckets = {"all": [*names["a"], *names["b"]]}
        return list(islice(step_draws(buckets, size=3, seed=seed, portions=portions), 200))

    drawn = [draw.name for step in steps(0) for draw in step]
    share = weights[0] / sum(weights)
    for end in range(1, len(drawn) + 1):
        found = sum(name in names["a"] for name in drawn[:end])
        assert abs(found - share * end) <= 1
    for key in "ab":  # each sample of a portion equally often, epoch by epoch
        counts = Counter(name for name in drawn if name in names[key])
        assert max(counts.values(), default=0) - min(counts.get(n, 0) for n in names[key]) <= 1
    assert steps(0) == steps(0) != steps(1)
    numbers = [draw.number for step in steps(0) for draw in step]
    assert numbers == list(range(len(numbers)))


def test_without_portions_the_order_is_that_of_earlier_versions() -> None:
    """Runs that were begun before can be resumed to the bit."""
    names = [f"n{number}" for number in range(6)]
    steps = list(islice(step_draws({"all": names}, size=2, seed=7), 6))
    found = [draw.name for step in steps for draw in step]
    orders = [np.random.default_rng([0x0D4A, 7, epoch]).permutation(6) for epoch in range(2)]
    assert found == [names[place] for order in orders for place in order]
