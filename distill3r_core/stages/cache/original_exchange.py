"""Caches of the original project: written from ours, and read into ours."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config, paths
from distill3r_core.cache.export_record import (
    ExportedSample,
    ExportRecord,
    read_export_record,
    write_export_record,
)
from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.maps.maps_layout import Kind
from distill3r_core.cache.original.original_format import (
    ARRAYS,
    VIEWS,
    OriginalSample,
    read_sample,
    write_sample,
)
from distill3r_core.cache.original.original_samples import (
    as_original,
    from_original,
    original_places,
    original_views,
    sample_name,
)
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.data.manifest_views import image_hash
from distill3r_core.errors import (
    ConfigError,
    DamageError,
    ImageError,
    InputMissingError,
    NothingUsableError,
    RequestError,
)
from distill3r_core.files import path_below
from distill3r_core.io.checksums import file_hash
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.fit import ImageFit, fit_for, fit_image, is_portrait
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.report import Failure, Progress, Report, Silent, Table
from distill3r_core.stages.cache.sample_plan import finished_names
from distill3r_core.teachers.registry import TEACHERS

_VIEWS = 20  # the release's reader takes no other number
_ORIGINAL_TEACHER = "fast3r"  # the only teacher of the original project


def export_original(path: Path, output: Path, *, progress: Progress = Silent()) -> Report:
    """Write a cache in the original project's format, one folder per sample.

    Samples that are there already are left as they are. What the format does not carry (teacher,
    license, settings, splits) goes into a file beside them, which `import_original` reads.

    Args:
        output: Where `<dataset>/<scene_id>` folders go.

    Raises:
        InputMissingError: There is no cache.
        RequestError: A sample has local maps only.
        ConflictError: The output holds the export of a cache that was made with other settings.
        DamageError: A sample's bytes are not those that were written.
        UnsafeFileError: A sample's name leads out of `output`; nothing is written.
        DiskFullError: There is no room; samples that were written stay.
    """
    cache = TeacherCache(path)
    names = cache.names()
    places = original_places(sample.name for sample in cache.header.plan)
    folders = {name: path_below(output, places[name].folder) for name in names}
    alone = [name for name in names if cache.entry(name).kind & Kind.LOCAL_ONLY]
    if alone:
        raise RequestError(
            f"{len(alone)} of {len(names)} samples of {path} have no poses (first: {alone[0]!r}): "
            "the original project's format has no place for samples without global points",
            hint="`distill3r manifest ... --poses colmap` estimates the poses",
        )
    splits = {sample.name: sample.split for sample in cache.header.plan}
    exported = {places[name].folder: ExportedSample(name, splits[name]) for name in names}
    write_export_record(output, cache.header, exported)
    written = 0
    progress.begin("exporting", total=len(names), unit="samples")
    for name in names:
        if not (folders[name] / ARRAYS).exists():
            sample = cache.read(name)
            views = original_views(cache.detail(name), name, places[name])
            write_sample(folders[name], as_original(sample, views))
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
    images: Path = Path()  # folder that relative image paths start from
    teacher: str | None = None  # None: what the export says, else fast3r, the release's only one
    license: str | None = None  # None: what the export says, else the teacher's


def import_original(settings: ImportSettings, *, progress: Progress = Silent()) -> Report:
    """Read the original project's cache into one of ours, images included.

    Args:
        settings: See `ImportSettings`.

    Raises:
        InputMissingError: There is no such cache, or no such folder of images.
        ConflictError: The output was made with other settings, or holds something else.
        ConfigError: The license of the teacher is not known.
        NothingUsableError: No sample can be used.
    """
    if not settings.images.is_dir():
        raise InputMissingError(
            f"no folder {settings.images}", hint="name where picture paths start from: --images"
        )
    folders = sorted(path.parent for path in settings.path.rglob(ARRAYS))
    if not folders:
        raise InputMissingError(f"no {ARRAYS} under {settings.path}")
    record = read_export_record(settings.path)
    exported = {} if record is None else record.samples
    failed: list[Failure] = []
    plan: dict[str, Path] = {}
    splits: dict[str, str] = {}
    for folder in folders:
        sample = exported.get(folder.relative_to(settings.path).as_posix())
        name = sample_name(folder, settings.path) if sample is None else sample.name
        first = plan.setdefault(name, folder)
        if first is not folder:
            failed.append(Failure(str(folder), f"stands for the same sample as {first}"))
        elif sample is not None:
            splits[name] = sample.split
    planned = tuple(
        PlannedSample(name, file_hash(folder / ARRAYS), splits.get(name, "train"))
        for name, folder in plan.items()
    )
    header = replace(_header(settings, record, folders), plan=planned)
    fit = ImageFit.from_plain(header.fit)
    done = finished_names(settings.output, header)
    progress.begin("importing", total=len(planned), unit="samples")
    with CacheWriter(settings.output, header) as writer:
        encoder = writer.encoder()
        for entry in planned:
            if entry.name not in done:
                try:
                    release = read_sample(plan[entry.name])
                    listed, sources = _read_images(release, settings.images)
                    images = _fit_images(sources, fit)
                    hashes = [image_hash(pixels) for pixels in sources]
                    detail = {"pictures": hashes, "paths": listed}
                    targets = from_original(release)
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
    rows = (
        ("samples", f"{len(done)} of {len(planned)}"),
        ("teacher", header.teacher),
        ("license", header.license),
    )
    notes = [] if splits else ["the original keeps no splits: every sample is training data"]
    return Report(
        settings=config.as_plain(replace(settings, teacher=header.teacher, license=header.license)),
        result=result,
        files=[settings.output],
        failed=failed,
        tables=[Table(f"cache {settings.output}", ("", ""), rows)],
        notes=notes,
    )


def _header(
    settings: ImportSettings, record: ExportRecord | None, folders: Sequence[Path]
) -> CacheHeader:
    """How an imported cache was made: as its export says, else as the original project does it.

    Raises:
        ConfigError: The license of a teacher that was named is not known.
        NothingUsableError: No sample can be read.
    """
    teacher, license = _teacher_of(settings, record)
    if record is not None:
        return replace(record.header, teacher=teacher, license=license)
    size = _first_size(folders)
    return CacheHeader(
        teacher=teacher,
        license=license,
        weights_hash=None,
        size=size,
        fit=ImageFit(size=size, mode="release", teacher=DUST3R_FIT).as_plain(),
        threshold=0.3,
        metric=False,
        export={"resample": "release", "threshold_on": "confidence", "global_map": "aligned"},
    )


def _teacher_of(settings: ImportSettings, record: ExportRecord | None) -> tuple[str, str]:
    """Name and license of the teacher of an imported cache."""
    if record is not None and settings.teacher in (None, record.header.teacher):
        return record.header.teacher, settings.license or record.header.license
    teacher = settings.teacher or _ORIGINAL_TEACHER
    if settings.license is not None:
        return teacher, settings.license
    if teacher not in TEACHERS or TEACHERS[teacher].given_weights:
        raise ConfigError(
            f"the license of the teacher {teacher!r} is not known",
            hint="name it with --license: a student inherits it",
        )
    return teacher, ", ".join(TEACHERS[teacher].licenses)


def _read_images(
    sample: OriginalSample, root: Path
) -> tuple[list[str], list[UInt8[np.ndarray, "h w 3"]]]:
    """Paths of a sample's images, and their pixels.

    Raises:
        DamageError: The sample does not name an image for every view.
        ImageError: An image cannot be read.
    """
    listed = sample.views.get("final_image_paths") or sample.views.get("sampled_image_paths", [])
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise DamageError(f"{VIEWS} does not list its images, but has a {type(listed).__name__}")
    if len(listed) != len(sample.masks):
        raise DamageError(f"{len(listed)} pictures are listed for {len(sample.masks)} views")
    sources = []
    for text in listed:
        path = root / text
        try:
            pixels = read_image(path).pixels
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        sources.append(pixels)
    return listed, sources


def _fit_images(
    sources: Sequence[UInt8[np.ndarray, "h w 3"]], fit: ImageFit
) -> UInt8[torch.Tensor, "N 3 H W"]:
    """Images as the student sees them.

    The release squashed a portrait image's maps upright, though it showed its student the image
    transposed: here the image is squashed like its maps.
    """
    sizes = [(pixels.shape[0], pixels.shape[1]) for pixels in sources]
    fit, portrait = fit_for(sizes, fit), is_portrait(sizes)
    images = []
    for pixels in sources:
        upright = fit.mode == "release" and pixels.shape[0] > pixels.shape[1]
        one = ImageFit(fit.size, "release-inference", fit.teacher) if upright else fit
        fitted = fit_image(pixels, one, portrait=portrait)
        images.append(torch.from_numpy(np.ascontiguousarray(fitted.image)).permute(2, 0, 1))
    return torch.stack(images)


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
