"""Caches of the original project: written from ours, and read into ours."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from distill3r_core.cache.store import CachedSample, CacheWriter, TeacherCache
from distill3r_core.data.manifest_views import image_hash
from distill3r_core.errors import (
    DamageError,
    GeometryError,
    ImageError,
    InputMissingError,
    NothingUsableError,
)
from distill3r_core.geometry.similarity import fit_similarity
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.fit import Fit, fit_image
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.report import Failure, Progress, Report, Silent, Table
from distill3r_core.types import TeacherTargets

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
    places = _places(sample.name for sample in cache.header.plan)
    written = 0
    progress.begin("exporting", total=len(names), unit="samples")
    for name in names:
        place = places[name]
        if not (output / place.folder / ARRAYS).exists():
            sample = cache.read(name)
            views = _views_json(cache, name, number=place.number, total=place.total)
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


@dataclass(frozen=True)
class _Place:
    """Where a sample goes: its number among all that are planned of its scene."""

    scene: str
    number: int
    total: int

    @property
    def folder(self) -> str:
        return self.scene if self.total == 1 else f"{self.scene}_sample{self.number:02d}"


def _places(planned: Iterable[str]) -> dict[str, _Place]:
    """By the plan, finished or not: a number stands whenever a sample is made."""
    scenes: dict[str, list[str]] = {}
    for name in planned:
        scenes.setdefault(name.rsplit("/", 1)[0], []).append(name)
    return {
        name: _Place(scene, number, len(names))
        for scene, names in scenes.items()
        for number, name in enumerate(names)
    }


def as_release(sample: CachedSample, views: Mapping[str, Any]) -> ReleaseSample:
    """A sample as the original project stores it: NaN and 0 where invalid."""
    targets = sample.targets
    invalid = ~targets.valid_mask

    def points(values: torch.Tensor) -> np.ndarray:
        return values.masked_fill(invalid[..., None], float("nan")).half().numpy()

    def confidence(values: torch.Tensor) -> np.ndarray:
        return values.masked_fill(invalid, 0.0).half().numpy()

    return ReleaseSample(
        xyz_local=points(targets.points_local),
        xyz_global=points(targets.points_global),
        conf_local=confidence(targets.confidence_local),
        conf_global=confidence(targets.confidence_global),
        masks=targets.valid_mask.numpy(),
        views=views,
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
        first = plan.setdefault(_name(folder, settings.path), folder)
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


def from_release(sample: ReleaseSample) -> TeacherTargets:
    """The original's arrays as targets; the global map is stored where no similarity gives it."""
    local = torch.from_numpy(sample.xyz_local.astype(np.float32))
    own = torch.from_numpy(sample.xyz_global.astype(np.float32))
    confidence_local = torch.from_numpy(sample.conf_local.astype(np.float32))
    confidence_global = torch.from_numpy(sample.conf_global.astype(np.float32))
    # The mask says less than the maps: infinities of float16 are in them.
    mask = torch.from_numpy(sample.masks) & local.isfinite().all(-1) & own.isfinite().all(-1)
    mask = mask & confidence_local.isfinite() & confidence_global.isfinite()
    similarities = []
    for view, valid in enumerate(mask):
        try:
            similarities.append(fit_similarity(local[view][valid], own[view][valid]))
        except GeometryError:  # too few points to tell: the stored map is what counts
            similarities.append(torch.eye(3, 4))
    return TeacherTargets(
        points_local=torch.where(mask[..., None], local, 0.0),
        confidence_local=torch.where(mask, confidence_local, 1.0),
        confidence_global=torch.where(mask, confidence_global, 1.0),
        valid_mask=mask,
        global_from_local=torch.stack(similarities),
        stored_points_global=torch.where(mask[..., None], own, 0.0),
    )


def _views_json(cache: TeacherCache, name: str, *, number: int, total: int) -> dict[str, Any]:
    detail = cache.detail(name)
    dataset, scene_id, _ = name.split("/", 2) if name.count("/") > 1 else ("", name, "")
    root = Path(detail.get("root", ""))
    found = [str(root / path) for path in detail.get("paths", detail["pictures"])]
    return {
        "dataset": detail.get("dataset", dataset),
        "scene_id": detail.get("scene_id", scene_id),
        "sample_id": number,
        "total_samples": total,
        "original_count": len(found),
        "sampled_count": len(found),
        "sampled_image_paths": found,
        "sampled_indices": list(range(len(found))),
    }


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


def _name(folder: Path, root: Path) -> str:
    """`<dataset>/<scene_id>/<window>` of a folder `<dataset>/<scene_id>[_sample<kk>]`."""
    relative = folder.relative_to(root).as_posix()
    stem, mark, number = relative.rpartition("_sample")
    if mark and number.isdigit():
        return f"{stem}/{int(number):03d}"
    return f"{relative}/000"


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
