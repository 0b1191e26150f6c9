"""Samples through the teacher into the cache: reading, asking, packing and writing overlap.

One thread asks the teacher; meanwhile the next samples' images are read, and the last ones'
targets are packed and written. Queues are short: whoever is fast waits, and memory stays bounded.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.cache.sample_codec import EncodedSample, SampleEncoder
from distill3r_core.data.manifest import Sample
from distill3r_core.errors import (
    CacheError,
    Distill3rError,
    GeometryError,
    ImageError,
    OutOfMemoryError,
)
from distill3r_core.profiling import AllocationError, memory_limits
from distill3r_core.report import Failure
from distill3r_core.stages.cache.sample_targets import (
    LoadedSample,
    TargetRecipe,
    detail_of,
    load_sample,
    targets_of_sample,
)
from distill3r_core.system.threads import Pool, ahead, result_of
from distill3r_core.teachers.base import FeatureTeacher, Teacher
from distill3r_core.types import RawMaps

_AHEAD = 1  # samples that wait between two threads; each may be hundreds of megabytes


@runtime_checkable
class Divisible(Protocol):
    """A teacher with a part in which views do not see each other.

    Attributes:
        views_at_once: Views that go through that part together; any number gives the same answer.
    """

    views_at_once: int


@runtime_checkable
class Sink(Protocol):
    """Where finished samples go: a `CacheWriter`, or nowhere in a rehearsal."""

    def encoder(self) -> SampleEncoder:
        """An encoder for one thread."""
        ...

    def put(self, sample: EncodedSample) -> None:
        """Store it."""
        ...


@dataclass
class CacheTally:
    """What was done so far."""

    samples: int = 0
    views: int = 0
    bytes: int = 0
    pixels: int = 0
    too_large: int = 0  # left out, since memory did not hold them
    aligned: int = 0  # samples whose pairs were aligned
    residual: float = 0.0  # sum of theirs
    unplaced: int = 0  # views of theirs that have no pose
    teacher_seconds: float = 0.0
    seconds: float = 0.0  # from the start to the last sample that was stored
    _started: float = field(default_factory=time.perf_counter, repr=False)

    def add(self, sample: EncodedSample) -> None:
        """Count a sample that was stored."""
        self.samples += 1
        self.views += len(sample.maps)
        self.bytes += sample.bytes
        if (facts := sample.detail.get("alignment")) is not None:
            self.aligned += 1
            self.residual += facts["residual"]
            self.unplaced += facts["unplaced"]
        self.pixels += len(sample.maps) * sample.size[0] * sample.size[1]
        self.seconds = time.perf_counter() - self._started

    @classmethod
    def of_all(cls, several: Sequence["CacheTally"]) -> "CacheTally":
        """The work of writers that worked side by side."""
        whole = cls()
        for one in several:
            whole.samples += one.samples
            whole.views += one.views
            whole.bytes += one.bytes
            whole.aligned += one.aligned
            whole.residual += one.residual
            whole.unplaced += one.unplaced
            whole.pixels += one.pixels
            whole.too_large += one.too_large
            whole.teacher_seconds += one.teacher_seconds / len(several)
            whole.seconds = max(whole.seconds, one.seconds)
        return whole


def make_samples(
    samples: Sequence[Sample],
    teacher: Teacher,
    recipe: TargetRecipe,
    sink: Sink,
    *,
    contents: Mapping[str, str],
    workers: int,
    layers: Sequence[str] = (),
    advance: Callable[[CacheTally], None],
) -> tuple[CacheTally, list[Failure]]:
    """Make samples and store them, in order.

    Args:
        teacher: Who is asked, always from this thread.
        recipe: How maps become targets.
        contents: Hash of all that the teacher reads, by name of the sample.
        workers: Threads that read the images of a sample.
        layers: Layers of the teacher whose features are stored as well.
        advance: Called after every sample, stored or left out.

    Returns:
        What was done, and the samples that were left out.

    Raises:
        DiskFullError: There is no more room; what was stored before is safe.
    """
    tally, failed = CacheTally(), list[Failure]()
    encoder = sink.encoder()  # used by the one packing thread only

    def load(sample: Sample) -> LoadedSample:
        with _fitting(len(sample.rows)):
            return load_sample(sample, teacher, recipe, readers)

    def pack(loaded: LoadedSample, raw: RawMaps, streams: Mapping[str, Tensor]) -> EncodedSample:
        name = loaded.sample.name
        with _fitting(len(loaded.prepared)):
            exported = targets_of_sample(loaded, raw, recipe)
            if not exported.targets.valid_mask.any():
                raise CacheError("no pixel of its views is valid")
            return encoder.encode(
                name,
                contents[name],
                loaded.images,
                exported.targets,
                detail_of(loaded, raw, exported, recipe.root, metric=teacher.metric),
                streams,
            )

    def store(packed: "Future[EncodedSample]") -> EncodedSample:
        sample = packed.result()
        sink.put(sample)
        return sample

    def leave_out(name: str, error: Distill3rError) -> None:
        tally.too_large += isinstance(error, OutOfMemoryError)
        failed.append(Failure(name, error.message))

    def finish(name: str, stored: "Future[EncodedSample]") -> None:
        try:
            tally.add(result_of(stored))
        # A CacheError: no valid pixel, or a value that float16 cannot hold.
        except (CacheError, OutOfMemoryError) as error:
            leave_out(name, error)
        advance(tally)

    with (
        Pool(workers, "image") as readers,
        Pool(1, "read") as reading,
        Pool(1, "pack") as packing,
        Pool(1, "store") as storing,
    ):
        waiting: deque[tuple[str, Future[EncodedSample]]] = deque()
        begun = ahead(lambda one: reading.submit(load, one), samples, _AHEAD)
        for sample, loaded in zip(samples, begun, strict=True):
            try:
                read = result_of(loaded)
                raw = predict_sample(teacher, read, tally)
                streams = features_of_sample(teacher, read, layers, tally)
            except (ImageError, GeometryError, OutOfMemoryError) as error:
                leave_out(sample.name, error)
                advance(tally)
                continue
            packed = packing.submit(pack, read, raw, streams)
            waiting.append((sample.name, storing.submit(store, packed)))
            if len(waiting) > _AHEAD:
                finish(*waiting.popleft())
        while waiting:
            finish(*waiting.popleft())
    return tally, failed


@contextmanager
def _fitting(views: int) -> Iterator[None]:
    """Say of a sample that memory does not hold it.

    Raises:
        OutOfMemoryError: It does not.
    """
    try:
        with memory_limits():
            yield
    except AllocationError as error:
        raise OutOfMemoryError(
            f"memory ran out with {views} views at once",
            hint="make samples of fewer views: `distill3r manifest ... --views N`",
        ) from error


def predict_sample(teacher: Teacher, loaded: LoadedSample, tally: CacheTally) -> RawMaps:
    """What the teacher says of a sample.

    Where memory runs out, a teacher that can take its views in smaller parts without another
    answer (`Divisible`) does so from then on. One that sees all views at once is not asked about
    half of them: that would be another answer.

    Raises:
        OutOfMemoryError: The views do not fit.
    """
    started = time.perf_counter()
    try:
        while True:
            try:
                with _fitting(len(loaded.prepared)):
                    return teacher.predict(loaded.prepared)
            except OutOfMemoryError:
                if not isinstance(teacher, Divisible) or teacher.views_at_once <= 1:
                    raise
            # Not before the error is gone: its frames hold what the teacher had made.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            teacher.views_at_once = min(teacher.views_at_once, len(loaded.prepared)) // 2 or 1
    finally:
        tally.teacher_seconds += time.perf_counter() - started


def features_of_sample(
    teacher: Teacher, loaded: LoadedSample, layers: Sequence[str], tally: CacheTally
) -> dict[str, Float[Tensor, "N h w C"]]:
    """The teacher's features of the student's images, by layer.

    Raises:
        OutOfMemoryError: They do not fit.
    """
    if not layers:
        return {}
    assert isinstance(teacher, FeatureTeacher), "checked before anything was made"
    started = time.perf_counter()
    images = loaded.images[None].float() / 255
    with _fitting(len(loaded.prepared)):
        found = {layer: teacher.encode_features(images, layer)[0].cpu() for layer in layers}
    tally.teacher_seconds += time.perf_counter() - started
    return found
