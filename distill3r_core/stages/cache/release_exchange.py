"""Caches of the original project: written from ours, and read into ours."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config, paths
from distill3r_core.cache.header import HEADER, CacheHeader, PlannedSample
from distill3r_core.cache.release_format import (
    ARRAYS,
    VIEWS,
    ReleaseSample,
    read_sample,
    write_sample,
)
from distill3r_core.cache.release_samples import (
    as_release,
    from_release,
    release_places,
    release_views,
    sample_name,
)
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.data.manifest_views import image_hash
from distill3r_core.errors import (
    DamageError,
    ImageError,
    InputMissingError,
    NothingUsableError,
)
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.fit import Fit, fit_image
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.report import Failure, Progress, Report, Silent, Table

_VIEWS = 20  # the release's reader takes no other number


def export_release(path: Path, output: Path, *, progress: Progress = Silent()) -> Report:
    """Write a cache in the original project's format, one folder per sample.

    Samples that are there already are left as they are.

    Args:
        output: Where `<dataset>/<scene_id>` folders go.

    Raises:
        InputMissingError: There is no cache.
        DamageError: A sample's bytes are not those that were written.
        DiskFullError: There is no room; samples that were written stay.
    """
    cache = TeacherCache(path)
    names = cache.names()
    places = release_places(sample.name for sample in cache.header.plan)
    written = 0
    progress.begin("exporting", total=len(names), unit="samples")
    for name in names:
        place = places[name]
        if not (output / place.folder / ARRAYS).exists():
            sample = cache.read(name)
            views = release_views(cache.detail(name), name, place)
            write_sample(output / place.folder, as_release(sample, views))
            written += 1
        progress.advance()
    notes = []
    if any(cache.entry(name).views != _VIEWS for name in names):
        notes.append(f"the original project's reader takes samples of {_VIEWS} views only")
    result = {"samples": len(names), "written": written}
    rows = (("samples", str(len(names))), ("written now", str(written)))
    return Report(
        settings={"path": str(path), "output": str(output)},
        result=result,
        files=[output],
        tables=[Table(f"{output}: the original project's format", ("", ""), rows)],
        notes=notes,
    )


@checked_dataclass(frozen=True, config=config.STRICT)
class ImportSettings:
    """Settings of `distill3r cache import`."""

    path: Path  # of the original project's cache
    output: Path = paths.CACHE
    images: Path = Path()  # folder that relative picture paths start from
    teacher: str = "fast3r"  # the release's only teacher
    license: str = "FAIR Noncommercial Research License"


def import_release(settings: ImportSettings, *, progress: Progress = Silent()) -> Report:
    """Read the original project's cache into one of ours, pictures included.

    Args:
        settings: See `ImportSettings`.

    Raises:
        InputMissingError: There is no such cache, or no such folder of pictures.
        ConflictError: The output was made with other settings, or holds something else.
        NothingUsableError: No sample can be used.
    """
    if not settings.images.is_dir():
        raise InputMissingError(
            f"no folder {settings.images}", hint="name where picture paths start from: --images"
        )
    folders = sorted(path.parent for path in settings.path.rglob(ARRAYS))
    if not folders:
        raise InputMissingError(f"no {ARRAYS} under {settings.path}")
    failed: list[Failure] = []
    plan: dict[str, Path] = {}
    for folder in folders:
        first = plan.setdefault(sample_name(folder, settings.path), folder)
        if first is not folder:
            failed.append(Failure(str(folder), f"stands for the same sample as {first}"))
    planned = tuple(
        PlannedSample(name, _content(folder / ARRAYS), "train") for name, folder in plan.items()
    )
    size = _first_size(folders)
    fit = Fit(size=size, mode="release", teacher=DUST3R_FIT)
    header = CacheHeader(
        teacher=settings.teacher,
        license=settings.license,
        weights_hash=None,
        size=size,
        fit=fit.as_plain(),
        threshold=0.3,
        metric=False,
        export={"resample": "release", "threshold_on": "confidence", "global_map": "aligned"},
        plan=planned,
    )
    done = _finished(settings.output, header)
    progress.begin("importing", total=len(planned), unit="samples")
    with CacheWriter(settings.output, header) as writer:
        encoder = writer.encoder()
        for entry in planned:
            if entry.name not in done:
                try:
                    release = read_sample(plan[entry.name])
                    images, pictures, paths_ = _pictures(release, fit, settings.images)
                    detail = {"pictures": pictures, "paths": paths_}
                    targets = from_release(release)
                    sample = encoder.encode(entry.name, entry.content, images, targets, detail)
                except (DamageError, ImageError) as error:
                    failed.append(Failure(entry.name, error.message))
                else:
                    writer.put(sample)
                    done.add(entry.name)
            progress.advance()
    if not done:
        raise NothingUsableError(
            f"none of {len(planned)} samples can be used; the first: {failed[0].reason}",
            hint="name the folder that picture paths start from with --images",
        )
    result = {"planned": len(planned), "finished": len(done)}
    rows = (("samples", f"{len(done)} of {len(planned)}"), ("teacher", settings.teacher))
    return Report(
        settings=config.as_plain(settings),
        result=result,
        files=[settings.output],
        failed=failed,
        tables=[Table(f"cache {settings.output}", ("", ""), rows)],
        notes=["the original keeps no splits: every sample is training data"],
    )


def _pictures(
    sample: ReleaseSample, fit: Fit, root: Path
) -> tuple[torch.Tensor, list[str], list[str]]:
    """Pictures as the student sees them, their hashes and their paths.

    The release squashed a portrait picture's maps upright, though it showed its student the picture
    transposed: here the picture is squashed like its maps.
    """
    listed = sample.views.get("final_image_paths") or sample.views.get("sampled_image_paths", [])
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise DamageError(f"{VIEWS} names no pictures, but {listed!r}")
    if len(listed) != len(sample.masks):
        raise DamageError(f"{len(listed)} pictures are listed for {len(sample.masks)} views")
    images, hashes, found = [], [], []
    for text in listed:
        path = root / text
        try:
            pixels = read_image(path).pixels
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        upright = Fit(fit.size, "release-inference", fit.teacher)
        portrait = pixels.shape[0] > pixels.shape[1]
        fitted = fit_image(pixels, upright if portrait else fit, portrait=False)
        images.append(torch.from_numpy(fitted.image).permute(2, 0, 1))
        hashes.append(image_hash(pixels))
        found.append(text)
    return torch.stack(images), hashes, found


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _first_size(folders: Sequence[Path]) -> tuple[int, int]:
    """Of the first sample that can be read.

    Raises:
        NothingUsableError: There is none.
    """
    for folder in folders:
        try:
            _, height, width = read_sample(folder).masks.shape
        except DamageError:
            continue
        return height, width
    raise NothingUsableError(f"none of {len(folders)} samples can be read")


def _finished(folder: Path, header: CacheHeader) -> set[str]:
    if not (folder / HEADER).exists():
        return set()
    return set(TeacherCache(folder, plan=header.plan).names())
