"""What a cache is to hold: samples, sizes and the header, from a manifest and a teacher."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill3r_core.cache.header import HEADER, CacheHeader, PlannedSample
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import Manifest, ManifestRow, Sample
from distill3r_core.data.manifest_views import content_of, read_stamps
from distill3r_core.errors import ImageError, NothingUsableError
from distill3r_core.io.images.fit import ImageFit, fit_for, is_portrait, oriented
from distill3r_core.report import Failure, Progress
from distill3r_core.teachers.pairwise.graph import neighboring, pairs_of


@dataclass(frozen=True)
class SamplePlan:
    """Samples by name with what is known of them before the teacher looks."""

    samples: Mapping[str, Sample]
    planned: tuple[PlannedSample, ...]
    failed: tuple[Failure, ...]  # samples with an image that cannot be read


def plan_samples(
    manifest: Manifest, *, views: int, teacher: Mapping[str, Any], progress: Progress
) -> SamplePlan:
    """The samples of a manifest and their contents.

    Args:
        views: Per sample, for manifests without windows of their own.
        teacher: The teacher's own settings.

    Raises:
        NothingUsableError: There is none.
    """
    samples = in_pairs(manifest.samples(views=views), teacher)
    if not samples:
        raise NothingUsableError(
            f"{manifest.path} has no sample: no scene with two frames or more",
            hint="look at rejected.csv beside it",
        )
    stamps = read_stamps(manifest.root)
    planned, failed = [], []
    progress.begin("looking at the pictures", total=len(samples), unit="samples")
    for sample in samples:
        content = ""  # never equal to that of a finished sample
        try:
            content = content_of(sample.rows, manifest.root, stamps=stamps)
        except ImageError as error:
            failed.append(Failure(sample.name, str(error)))
        planned.append(PlannedSample(sample.name, content, sample.split))
        progress.advance()
    return SamplePlan({sample.name: sample for sample in samples}, tuple(planned), tuple(failed))


def in_pairs(samples: Sequence[Sample], teacher: Mapping[str, Any]) -> tuple[Sample, ...]:
    """Samples as a teacher is asked about them: in the pairs of its graph where it takes pairs.

    Args:
        teacher: The teacher's own settings; `pairs` says that it takes each pair for itself.
    """
    if not teacher.get("pairs"):
        return tuple(samples)
    return tuple(
        replace(sample, name=f"{sample.name}/{i}-{j}", rows=(sample.rows[i], sample.rows[j]))
        for sample in samples
        for i, j in neighboring(pairs_of(len(sample.rows), teacher["graph"]))
    )


def fit_of(base: ImageFit, rows: Sequence[ManifestRow]) -> ImageFit:
    """The fit of one sample: the header's, or with the size that suits its images best."""
    return fit_for([(row.H, row.W) for row in rows], base)


def size_of(fit: ImageFit, rows: Sequence[ManifestRow]) -> tuple[int, int]:
    """Rows and columns of a sample's targets."""
    if fit.mode == "release":
        return fit.size
    return oriented(fit.size, portrait=is_portrait([(row.H, row.W) for row in rows]))


def finished_names(folder: Path, header: CacheHeader) -> set[str]:
    """Names of the planned samples that a cache has already."""
    if not (folder / HEADER).exists():
        return set()
    return set(TeacherCache(folder, plan=header.plan).names())


def share_of(names: Sequence[str], *, index: int, count: int) -> list[str]:
    """The part of a plan that one of `count` writers makes.

    Drawn from a shuffled order that depends on the count: where a writer died, its samples are
    spread over all who resume, whatever their number.
    """
    order = list(range(len(names)))
    random.Random(count).shuffle(order)
    return [names[place] for place in sorted(order[index::count])]
