"""The order of samples is a function of the seed, however the work is divided."""

from collections import Counter
from itertools import islice

import pytest

from distill3r_core.data.loading.batches import rng_of, share_of, step_draws

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
