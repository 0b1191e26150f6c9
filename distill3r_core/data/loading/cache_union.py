"""Several teacher caches as one set of samples, for a student that learns from all of them.

A sample of one cache among several is called `<label>:<name>`, as two teachers of one manifest use
the same names. A cache alone keeps the names it stores.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float16

from distill3r_core.cache.header import CacheHeader
from distill3r_core.cache.maps.maps_layout import ALL_PLANES, DEPTH_PLANES, LOCAL_PLANES
from distill3r_core.cache.shard import Entry
from distill3r_core.cache.store import TeacherCache, ViewBuffers
from distill3r_core.data.loading.batches import Portion
from distill3r_core.errors import CacheError, ConfigError, DamageError
from distill3r_core.problems import unknown_name


@dataclass(frozen=True)
class CacheMember:
    """One of several caches.

    Args:
        label: Name of its folder; its path where another folder has that name.
        weight: Its share of the draws, relative to the other caches; None: by its size.
    """

    label: str
    cache: TeacherCache
    weight: float | None = None


class CacheUnion:
    """The samples of one or more caches, read as those of a `TeacherCache`.

    Args:
        caches: At least one. Their samples follow each other in this order.
        weights: Shares of the draws by folder name or path, relative to each other; a cache that
            is not named has weight 1. Empty: every sample is drawn as often as any other.

    Raises:
        ConfigError: A cache is given twice, a weight names none of them, or there is a weight
            and only one cache.
        CacheError: Images of two of them are of different size, or are fitted in different modes.
    """

    def __init__(
        self,
        caches: Sequence[TeacherCache],
        weights: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        labels = _labels([cache.path for cache in caches])
        found = _weights([cache.path for cache in caches], weights)
        self.members = tuple(
            CacheMember(label, cache, weight)
            for label, cache, weight in zip(labels, caches, found, strict=True)
        )
        for other in caches[1:]:
            _refuse_other_images(caches[0], other)
        self._places: dict[str, tuple[CacheMember, str]] | None = None

    @classmethod
    def open(
        cls, paths: Sequence[Path], weights: Mapping[str, float] = MappingProxyType({})
    ) -> "CacheUnion":
        """The caches in these folders.

        Raises:
            InputMissingError: There is no cache in one of them.
            ConflictError: One has another format version.
            ConfigError, CacheError: As the constructor.
        """
        _labels(paths)  # before any of them is opened
        return cls([TeacherCache(path) for path in paths], weights)

    @property
    def several(self) -> bool:
        """Whether there is more than one cache."""
        return len(self.members) > 1

    @property
    def header(self) -> CacheHeader:
        """Header of the first cache; the size of images and the mode of their fit are those of all.

        What a teacher crops before that may differ.
        """
        return self.members[0].cache.header

    @property
    def metric(self) -> bool:
        """Whether the points of all samples are in meters."""
        return all(member.cache.header.metric for member in self.members)

    def names(self, split: str | None = None) -> list[str]:
        """Samples that are planned and finished, cache by cache."""
        return [name for member in self.members for name in self.names_of(member, split)]

    def names_of(self, member: CacheMember, split: str | None = None) -> list[str]:
        """The same of one cache."""
        return [self._qualified(member, name) for name in member.cache.names(split)]

    def place(self, name: str) -> tuple[CacheMember, str]:
        """The cache that has a sample, and the sample's name there.

        Raises:
            CacheError: None of them has it.
        """
        if not self.several:
            return self.members[0], name
        if self._places is None:
            self._places = {
                self._qualified(member, own): (member, own)
                for member in self.members
                for own in member.cache.names()
            }
        try:
            return self._places[name]
        except KeyError:
            paths = ", ".join(str(member.cache.path) for member in self.members)
            raise CacheError(f"no finished sample {name!r} in any of {paths}") from None

    def entry(self, name: str) -> Entry:
        """See `TeacherCache.entry`."""
        member, own = self.place(name)
        return member.cache.entry(own)

    def detail(self, name: str) -> Mapping[str, Any]:
        """See `TeacherCache.detail`."""
        member, own = self.place(name)
        return member.cache.detail(own)

    def size_of(self, name: str) -> tuple[int, int]:
        """Rows and columns of a finished sample."""
        return self.entry(name).size

    @property
    def planes(self) -> int:
        """How many planes a view has in a batch of any samples; see `maps_layout`."""
        kinds = {member.cache.planes for member in self.members}
        if ALL_PLANES in kinds:
            return ALL_PLANES
        return DEPTH_PLANES if kinds == {DEPTH_PLANES} else LOCAL_PLANES

    def read_into(self, name: str, views: Sequence[int], buffers: ViewBuffers) -> None:
        """See `TeacherCache.read_into`; an error about damage names the commands that repair it."""
        member, own = self.place(name)
        with naming_repair(member.cache.path):
            member.cache.read_into(own, views, buffers)

    def feature_shape(self, name: str, layer: str) -> tuple[int, int, int]:
        """See `TeacherCache.feature_shape`."""
        member, own = self.place(name)
        with naming_repair(member.cache.path):
            return member.cache.feature_shape(own, layer)

    def read_features_into(
        self, name: str, layer: str, views: Sequence[int], out: Float16[np.ndarray, "N h w C"]
    ) -> None:
        """See `TeacherCache.read_features_into`."""
        member, own = self.place(name)
        with naming_repair(member.cache.path):
            member.cache.read_features_into(own, layer, views, out)

    def require_layer(self, layer: str) -> None:
        """Refuse a layer that one of the caches does not have, or has with other channels.

        Raises:
            CacheError: Names the cache, or the two that differ.
        """
        first, *others = (member.cache for member in self.members)
        first.require_layer(layer)
        for other in others:
            other.require_layer(layer)
            channels = first.header.features[layer], other.header.features[layer]
            if channels[0] != channels[1]:
                raise CacheError(
                    f"features of the layer {layer!r} have {channels[0]} channels in {first.path} "
                    f"and {channels[1]} in {other.path}"
                )

    def portions(self) -> tuple[Portion, ...]:
        """Training samples of each cache with its weight; empty where sizes decide."""
        return tuple(
            Portion(tuple(names), member.weight)
            for member in self.members
            if member.weight is not None and (names := self.names_of(member, "train"))
        )

    def _qualified(self, member: CacheMember, name: str) -> str:
        return f"{member.label}:{name}" if self.several else name


@contextmanager
def naming_repair(cache: Path) -> Iterator[None]:
    """Add to an error about a damaged cache the commands that repair it.

    Raises:
        DamageError: The block found damage.
    """
    try:
        yield
    except DamageError as error:
        raise DamageError(
            error.message,
            hint=f"`distill3r cache verify --repair {cache}`, then `distill3r cache --resume "
            f"-o {cache}`, then `distill3r train --resume`",
        ) from error


def _labels(paths: Sequence[Path]) -> list[str]:
    """What the caches are called: the shortest of folder name and path that tells them apart."""
    places = [path.resolve() for path in paths]
    for index, place in enumerate(places):
        if place in places[:index]:
            first = paths[places.index(place)]
            also = "" if first == paths[index] else f", also as {paths[index]}"
            raise ConfigError(
                f"--cache {first} is given twice{also}",
                hint=f"to draw its samples more often: --cache-weight {place.name}=2",
            )
    folders = [place.name for place in places]
    return [
        folder if folders.count(folder) == 1 else str(path)
        for folder, path in zip(folders, paths, strict=True)
    ]


def _weights(paths: Sequence[Path], weights: Mapping[str, float]) -> list[float | None]:
    """The weight of every cache; None for all where none is given."""
    if not weights:
        return [None] * len(paths)
    if len(paths) == 1:
        raise ConfigError(
            f"--cache-weight {next(iter(weights))}: there is only one cache",
            hint="repeat --cache to train on several",
        )
    found: list[float | None] = [None] * len(paths)
    for name, weight in weights.items():
        place = Path(name).expanduser().resolve()
        matches = [index for index, path in enumerate(paths) if path.resolve() == place]
        matches = matches or [i for i, path in enumerate(paths) if path.resolve().name == name]
        if not matches:
            known = [path.resolve().name for path in paths]
            raise ConfigError(f"--cache-weight: {unknown_name(name, known)}")
        if len(matches) > 1:
            named = ", ".join(str(paths[index]) for index in matches)
            raise ConfigError(
                f"--cache-weight {name}: several caches have that folder name: {named}",
                hint="give the path instead of the name",
            )
        if found[matches[0]] is not None:
            raise ConfigError(f"--cache-weight: {paths[matches[0]]} has two weights")
        found[matches[0]] = weight
    return [1.0 if weight is None else weight for weight in found]


def _refuse_other_images(first: TeacherCache, other: TeacherCache) -> None:
    """Refuse caches whose images a student would see in different ways."""
    one, two = first.header, other.header
    if one.size != two.size:
        raise CacheError(
            f"{first.path} is at {_size(one)} and {other.path} at {_size(two)}: caches of one "
            "training have one size",
            hint=f"make one of them again with `distill3r cache --size {_size(one)}`",
        )
    if one.fit.get("mode") != two.fit.get("mode"):
        raise CacheError(
            f"{first.path} fits images by {one.fit.get('mode')!r} and {other.path} by "
            f"{two.fit.get('mode')!r}: `infer` could repeat only one of them",
            hint=f"make one of them again with `distill3r cache --fit {one.fit.get('mode')}`",
        )


def _size(header: CacheHeader) -> str:
    return header.size if isinstance(header.size, str) else "{}x{}".format(*header.size)
