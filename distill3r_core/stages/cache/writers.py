"""Several writers of one cache: job arrays by `--shard`, and torchrun's ranks."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from distill3r_core.errors import ConfigError

Item = TypeVar("Item")

_SHARD = re.compile(r"(\d+)/(\d+)")
_PATIENCE = timedelta(days=30)  # the others may be on their samples for that long


@dataclass(frozen=True)
class WriterPart:
    """Which writer this is."""

    index: int = 0  # from 0; the number of its shard
    count: int = 1
    rank: int = 0  # among those that torchrun started
    ranks: int = 1  # how many torchrun started; 1 without it


def part_of(shard: str | None) -> WriterPart:
    """The part of this process, from `--shard i/n` and torchrun's environment.

    Raises:
        ConfigError: `shard` is not i/n with i from 0 to n - 1.
    """
    index, count = 0, 1
    if shard is not None:
        match = _SHARD.fullmatch(shard)
        index, count = (int(group) for group in match.groups()) if match else (0, 0)
        if not index < count:
            raise ConfigError(
                f"cannot use the shard {shard!r}",
                hint="--shard i/n with i from 0 to n - 1, such as --shard 0/4",
            )
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    return WriterPart(index * ranks + rank, count * ranks, rank, ranks)


def device_of(name: str) -> str:
    """The device of this rank: on a machine with several GPUs each rank has its own."""
    local = os.environ.get("LOCAL_RANK")
    if local is not None and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(local) % torch.cuda.device_count()}"
    return name


@contextmanager
def together(part: WriterPart) -> Iterator[None]:
    """Know the other ranks, if there are any."""
    if part.ranks == 1:
        yield
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def gather(part: WriterPart, item: Item) -> Sequence[Item]:
    """The items of all ranks, once all have got here.

    A rank that ended with an error status would take the others down with it: so all end at once,
    and alike.
    """
    if part.ranks == 1:
        return [item]
    items: list[Item | None] = [None] * part.ranks
    dist.all_gather_object(items, item)
    return [one for one in items if one is not None]
