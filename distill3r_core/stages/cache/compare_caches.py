"""`cache compare`: how far two teachers agree on the samples that both have answered."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from distill3r_core import paths
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import Sample, read_manifest
from distill3r_core.errors import ConflictError, NothingUsableError
from distill3r_core.evaluation.agreement import (
    AUC_DEGREES,
    WITHIN,
    SampleAgreement,
    ViewGeometry,
    agreement_of,
    summary_of,
)
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.resample import Box, resample_nearest, whole
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.report import Failure, Progress, Report, Silent, Table
from distill3r_core.stages.cache.recompute_samples import samples_of
from distill3r_core.stages.cache.sample_targets import (
    TargetRecipe,
    box_in_map,
    load_sample,
    targets_of_sample,
)
from distill3r_core.system.threads import Pool
from distill3r_core.teachers import TEACHERS, Teacher, build_teacher
from distill3r_core.types import TeacherTargets

_SENSOR = "the sensor"


@dataclass(frozen=True)
class CompareSettings:
    """Settings of `distill3r cache compare`."""

    first: Path
    second: Path
    manifest: Path = paths.MANIFEST  # whose depth and poses are the sensor's, where it has them


@dataclass(frozen=True)
class _GridMaps:
    """Maps of a sample, and the part of each source image that they cover.

    Args:
        boxes: None: not recorded; taken for that of the other maps.
    """

    geometry: ViewGeometry
    boxes: Sequence[Box] | None


def compare_caches(settings: CompareSettings, *, progress: Progress = Silent()) -> Report:
    """Compare the second cache with the first, and both with the sensor where there is one.

    Samples are shared where both caches have them under one name and with the same images. Maps
    are compared on the coarser of the two grids, each pixel with the one that shows the same place.

    Raises:
        InputMissingError: There is no cache.
        ConflictError: One cache was made with `--fit release` and the other was not.
        NothingUsableError: They share no sample.
        DamageError: Stored bytes are not those that were written.
    """
    first, second = TeacherCache(settings.first), TeacherCache(settings.second)
    _refuse_transposed(first, second)
    names, others = _shared(first, second)
    sensor = _Sensor.find(settings.manifest, first, second, names)
    labels = _labels(first, second)
    compared: dict[tuple[str, str], dict[str, SampleAgreement]] = {(labels[1], labels[0]): {}}
    if sensor is not None:
        compared |= {(label, _SENSOR): {} for label in labels}
    failed: list[Failure] = []
    progress.begin("comparing", total=len(names), unit="samples")
    for name in names:
        maps = {
            label: _stored(cache, name)
            for label, cache in zip(labels, (first, second), strict=True)
        }
        if sensor is not None:
            maps[_SENSOR] = sensor.maps(name)
        for (mine, reference), found in compared.items():
            agreement = _compare(maps[mine], maps[reference])
            if agreement is None:
                failed.append(Failure(name, f"{mine} and {reference} share no valid pixel"))
            else:
                found[name] = agreement
        progress.advance()
    if not any(compared[labels[1], labels[0]]):
        raise NothingUsableError("the caches share no pixel that is valid in both")
    return _report(settings, (first, second), compared, failed, others)


def _refuse_transposed(first: TeacherCache, second: TeacherCache) -> None:
    modes = [cache.header.fit.get("mode", "squash") for cache in (first, second)]
    if modes[0] != modes[1] and any(str(mode).startswith("release") for mode in modes):
        raise ConflictError(
            f"{first.path} fits images by {modes[0]!r} and {second.path} by {modes[1]!r}: the "
            "release's fit transposes portrait images, so pixels cannot be matched",
            hint="make one of them again with the same --fit",
        )


def _shared(first: TeacherCache, second: TeacherCache) -> tuple[list[str], int]:
    """Samples of one name and the same images, and the number of those of one name alone."""
    there = set(second.names())
    named = [name for name in first.names() if name in there]
    names = [
        name for name in named if first.detail(name)["pictures"] == second.detail(name)["pictures"]
    ]
    if not names:
        why = (
            f"their {len(named)} samples of one name are of other images"
            if named
            else "no name of a sample is in both"
        )
        raise NothingUsableError(
            f"{first.path} and {second.path} share no sample: {why}",
            hint="run both teachers on one manifest: `distill3r cache --teacher NAME -o FOLDER`",
        )
    return names, len(named) - len(names)


def _labels(first: TeacherCache, second: TeacherCache) -> tuple[str, str]:
    """What the caches are called in the table: teachers, else folders, else paths."""
    ways: tuple[Callable[[TeacherCache], str], ...] = (
        lambda cache: cache.header.teacher,
        lambda cache: cache.path.resolve().name,
        lambda cache: str(cache.path),
    )
    for way in ways:
        if way(first) != way(second):
            return way(first), way(second)
    return f"{first.path} (1)", f"{second.path} (2)"


def _stored(cache: TeacherCache, name: str) -> _GridMaps:
    boxes = cache.detail(name).get("boxes")
    placed = None if boxes is None else [(box[0], box[1], box[2], box[3]) for box in boxes]
    return _GridMaps(_geometry(cache.read(name).targets), placed)


def _geometry(targets: TeacherTargets) -> ViewGeometry:
    similarities = targets.global_from_local.double()
    # Samples without poses store the identity for every view.
    known = not torch.equal(similarities, similarities[:1].expand_as(similarities))
    return ViewGeometry(
        depth=targets.points_local[..., 2],
        mask=targets.valid_mask,
        confidence=targets.confidence_local,
        world_from_cam=rigid_of(similarities) if known else None,
    )


def _compare(mine: _GridMaps, reference: _GridMaps) -> SampleAgreement | None:
    """The agreement on the coarser of the two grids."""
    sizes = [placed.geometry.depth.shape[1:] for placed in (mine, reference)]
    coarser = mine if sizes[0].numel() < sizes[1].numel() else reference
    return agreement_of(_on_grid_of(coarser, mine), _on_grid_of(coarser, reference))


def _on_grid_of(grid: _GridMaps, placed: _GridMaps) -> ViewGeometry:
    """The maps at the pixels of another grid, by the nearest one; invalid beyond their images."""
    own, size = placed.geometry, grid.geometry.depth.shape[1:]
    known = grid.boxes is not None and placed.boxes is not None
    if own.depth.shape[1:] == size and (not known or grid.boxes == placed.boxes):
        return own
    maps: list[list[torch.Tensor]] = [[], [], []]
    for view in range(len(own.depth)):
        box = whole(own.depth[view])
        if grid.boxes is not None and placed.boxes is not None:
            box = box_in_map(grid.boxes[view], placed.boxes[view], own.depth.shape[1:])
        for kept, values in zip(maps, (own.depth, own.mask, own.confidence), strict=True):
            kept.append(resample_nearest(values[view], box, (size[0], size[1])))
        maps[1][-1] &= _inside(box, own.depth.shape[1:], (size[0], size[1]))
    depth, mask, confidence = map(torch.stack, maps)
    return ViewGeometry(depth, mask, confidence, own.world_from_cam)


def _inside(box: Box, shape: Sequence[int], size: tuple[int, int]) -> torch.Tensor:
    """Which centers of a grid over a box lie in a map of that shape."""
    left, top, right, bottom = box
    across = left + (torch.arange(size[1]) + 0.5) * (right - left) / size[1]
    down = top + (torch.arange(size[0]) + 0.5) * (bottom - top) / size[0]
    rows = (down >= 0) & (down <= shape[0])
    return rows[:, None] & ((across >= 0) & (across <= shape[1]))


@dataclass(frozen=True)
class _Sensor:
    """Depth and poses of a manifest, read as the first cache's samples were."""

    teacher: Teacher
    samples: dict[str, Sample]
    recipe: TargetRecipe

    @classmethod
    def find(
        cls, manifest: Path, first: TeacherCache, second: TeacherCache, names: Sequence[str]
    ) -> "_Sensor | None":
        """None where a cache is the sensor's itself, or the manifest has none for some sample."""
        records = [TEACHERS[name] for name in TEACHERS]
        record = next(one for one in records if one.needs.depth)
        if record.name in (first.header.teacher, second.header.teacher):
            return None
        if not manifest.is_file():
            return None
        rows = read_manifest(manifest)
        samples = samples_of(rows, first.header)
        known = [samples[name] for name in names if name in samples]
        if len(known) < len(names) or any(
            record.needs.lacking(row) for sample in known for row in sample.rows
        ):
            return None
        teacher = build_teacher(record.name, None, device=torch.device("cpu"))
        fit = ImageFit.from_plain(first.header.fit)
        return cls(teacher, samples, TargetRecipe(rows.root, fit, threshold=None, export={}))

    def maps(self, name: str) -> _GridMaps:
        """Depth and poses of a sample."""
        with Pool(1) as pool:
            loaded = load_sample(self.samples[name], self.teacher, self.recipe, pool)
        raw = self.teacher.predict(loaded.prepared)
        targets = targets_of_sample(loaded, raw, self.recipe).targets
        return _GridMaps(_geometry(targets), [one.box for one in loaded.placements])


_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("depth", "depth_median", lambda value: f"{value:.2%}"),
    (f"within {WITHIN:.0%}", "depth_within", lambda value: f"{value:.1%}"),
    ("rotation", "rotation_median", lambda value: f"{value:.2f}°"),
    ("direction", "translation_median", lambda value: f"{value:.2f}°"),
    (f"AUC@{AUC_DEGREES}", f"auc_{AUC_DEGREES}", lambda value: f"{value:.3f}"),
    ("rank", "confidence_rank", lambda value: f"{value:+.2f}"),
)


def _report(
    settings: CompareSettings,
    caches: tuple[TeacherCache, TeacherCache],
    compared: dict[tuple[str, str], dict[str, SampleAgreement]],
    failed: list[Failure],
    others: int,
) -> Report:
    comparisons: list[dict[str, Any]] = []
    for (mine, reference), found in compared.items():
        by_sample = [
            {
                "sample": name,
                **{k: v for k, v in summary_of([one]).items() if k != "samples"},
                "scale": one.scale,
                "pixels": one.pixels,
            }
            for name, one in found.items()
        ]
        summary = summary_of(list(found.values()))
        comparisons.append({"of": mine, "against": reference, **summary, "by_sample": by_sample})
    rows = []
    for one in comparisons:
        cells = ("-" if one[key] is None else show(one[key]) for _, key, show in _COLUMNS)
        rows.append((f"{one['of']} / {one['against']}", *cells))
    count = comparisons[0]["samples"]
    notes = [
        "depth: median difference after one scale a sample; rotation, direction: medians over "
        "pairs of views; rank: correlation of confidence with the difference, -1 is best",
        *_verdict(comparisons),
    ]
    if others:
        notes.append(f"{others} samples have one name and other images: not compared")
    result: dict[str, Any] = {
        "first": _described(caches[0]),
        "second": _described(caches[1]),
        "shared": count,
        "comparisons": comparisons,
    }
    return Report(
        settings={key: str(value) for key, value in asdict(settings).items()},
        result=result,
        failed=failed,
        tables=[Table(f"{count} shared samples", ("", *(one[0] for one in _COLUMNS)), tuple(rows))],
        notes=notes,
    )


def _described(cache: TeacherCache) -> dict[str, Any]:
    header = cache.header
    return {"path": str(cache.path), "teacher": header.teacher, "license": header.license,
            "samples": len(cache.names())}  # fmt: skip


def _verdict(comparisons: Sequence[dict[str, Any]]) -> list[str]:
    """Which of the two is nearer to the sensor."""
    if len(comparisons) < 3:
        return []
    one, two = comparisons[1:3]
    words = []
    for what, key, better in (
        ("depth", "depth_median", min),
        ("poses", f"auc_{AUC_DEGREES}", max),
    ):
        if one[key] is not None and two[key] is not None and one[key] != two[key]:
            nearest = better((one, two), key=lambda each: each[key])
            words.append(f"in {what}: {nearest['of']}")
    return [f"nearer to the sensor {', '.join(words)}"] if words else []
