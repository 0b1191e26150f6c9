"""Which scenes, or which frames of them, are held out for validation."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from distill3r_core.data.manifest_cells import Split
from distill3r_core.errors import ConfigError

Item = TypeVar("Item")

_LAST_FRACTION, _MIN_HELD_OUT, _MIN_FRAMES = 0.1, 2, 4
_HASH_BYTES = 8


@dataclass(frozen=True)
class SceneFrames:
    """A scene as far as splitting goes."""

    name: str
    frames: int
    split: Split | None = None  # what the data set's own files say; None: nothing


@dataclass(frozen=True)
class DatasetSplit:
    """The split of every frame of every scene, and what is worth saying about it."""

    splits: tuple[tuple[Split, ...], ...]
    notes: tuple[str, ...] = ()


def split_dataset(
    parts: Sequence[SceneFrames],
    *,
    val_scenes: float,
    val_frames: str | None = None,
    fixed: bool = False,
) -> DatasetSplit:
    """Split one data set.

    Args:
        val_scenes: Fraction of the scenes that are validation, by a stable hash of their names.
        val_frames: `last:N` or `every:K`: hold out frames inside scenes instead.
        fixed: The split was given; a side that stays empty is meant.

    Raises:
        ConfigError: `val_frames` is of another form.
    """
    if val_frames is not None:
        inside = [
            held_out(part.frames, val_frames) if part.split != "val" else _all(part, "val")
            for part in parts
        ]
        idle = any(inside) and not any("train" in splits for splits in inside)
        note = f"--val-frames {val_frames} leaves no frame to train on"
        return DatasetSplit(tuple(inside), (note,) if idle else ())
    whole = [_all(part, part.split or hashed_split(part.name, val_scenes)) for part in parts]
    sides = {splits[0] for splits in whole if splits}
    if len(sides) != 1 or fixed or (val_scenes == 0 and sides == {"train"}):
        return DatasetSplit(tuple(whole))
    if all(part.split == "val" for part in parts):
        return DatasetSplit(tuple(whole), ("all of it is test data: there is nothing to train on",))
    inside = tuple(
        _last(part.frames) if part.split != "val" else splits
        for part, splits in zip(parts, whole, strict=True)
    )
    note = f"too few scenes to hold whole ones out (--val-scenes {val_scenes:g}): "
    if any("val" in splits for splits in inside):
        note += "the last 10 % of each scene's frames are validation"
    else:
        note += "there is no validation data"
    return DatasetSplit(inside, (note,))


def hashed_split(name: str, val_scenes: float) -> Split:
    """Validation where a hash of the name, as a fraction, is under `val_scenes`."""
    digest = hashlib.blake2b(name.encode(), digest_size=_HASH_BYTES).digest()
    fraction = int.from_bytes(digest, "big") / 256**_HASH_BYTES
    return "val" if fraction < val_scenes else "train"


def held_out(frames: int, rule: str) -> tuple[Split, ...]:
    """The split of each frame of a scene by `last:N` or `every:K`.

    `every:K` holds out the middle one of each K frames, so that it has neighbors on both sides.

    Raises:
        ConfigError: The rule is of another form.
    """
    kind, number = parse_rule(rule)
    if kind == "last":
        return tuple("val" if index >= frames - number else "train" for index in range(frames))
    return tuple("val" if index % number == number // 2 else "train" for index in range(frames))


def parse_rule(rule: str) -> tuple[str, int]:
    """`last:N` with N from 1, or `every:K` with K from 2.

    Raises:
        ConfigError: It is neither.
    """
    kind, _, number = rule.partition(":")
    least = {"last": 1, "every": 2}.get(kind)
    if least is None or not number.isdecimal() or int(number) < least:
        raise ConfigError(
            f"cannot use --val-frames {rule!r}", hint="last:N (N from 1) or every:K (K from 2)"
        )
    return kind, int(number)


def choose(
    items: Sequence[Item], fraction: float, *, seed: int, name: Callable[[Item], str]
) -> list[Item]:
    """A random fraction of items, at least one, in their order.

    They are those that the original project chooses: it sorts the names, shuffles them and takes
    the first ones.

    Args:
        name: Name of an item, by which it is sorted.
    """
    if fraction >= 1 or not items:
        return list(items)
    kept = max(1, int(len(items) * fraction + 0.5))
    shuffled = sorted(range(len(items)), key=lambda index: name(items[index]))
    random.Random(seed).shuffle(shuffled)
    return [items[index] for index in sorted(shuffled[:kept])]


def _last(frames: int) -> tuple[Split, ...]:
    if frames < _MIN_FRAMES:
        return ("train",) * frames
    count = max(_MIN_HELD_OUT, round(frames * _LAST_FRACTION))
    return ("train",) * (frames - count) + ("val",) * count


def _all(part: SceneFrames, split: Split) -> tuple[Split, ...]:
    return (split,) * part.frames
