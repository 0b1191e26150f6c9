"""The validation frames of a run's manifest as ground truth: their own depth and poses."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.manifest import ManifestRow, read_manifest
from distill3r_core.data.manifest_views import read_view
from distill3r_core.errors import ImageError, InputMissingError
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.protocols.frame_rules import ConsecutiveFrames
from distill3r_core.evaluation.truth import Truth
from distill3r_core.evaluation.view_truth import NamedView, PrepareViews, check_view, truth_of
from distill3r_core.report import Failure


class HeldOutWindow(NamedTuple):
    """Validation frames that a model sees in one pass."""

    name: str
    root: Path  # folder of the manifest
    rows: tuple[ManifestRow, ...]


def held_out_windows(
    caches: CacheUnion, protocol: Protocol, *, trained_on: Collection[str]
) -> tuple[list[HeldOutWindow], int]:
    """The validation frames of the manifests behind caches, in windows of a protocol.

    They are cut from the frames that were not trained on.

    Args:
        trained_on: Hashes of images that are left out, and counted.

    Returns:
        The windows, and the number of frames left out.

    Raises:
        InputMissingError: A manifest is not there.
    """
    names = caches.names("val")
    size = max(caches.entry(name).views for name in names)
    found: list[HeldOutWindow] = []
    seen = 0
    for root in dict.fromkeys(Path(caches.detail(name)["root"]) for name in names):
        path = root / "manifest.csv"
        if not path.is_file():
            raise InputMissingError(
                f"no manifest {path}, which the cache was made of",
                hint="score the run against a data set: --data ROOT",
            )
        scenes: dict[str, list[ManifestRow]] = {}
        for row in sorted(read_manifest(path).rows, key=lambda row: row.sample_id):
            if row.split != "val":
                continue
            if row.picture in trained_on:
                seen += 1
                continue
            scenes.setdefault(f"{row.dataset}/{row.scene_id}", []).append(row)
        numbers = {
            scene: [int(row.sample_id) if row.sample_id.isdecimal() else None for row in rows]
            for scene, rows in scenes.items()
        }
        rule = protocol.frames
        if isinstance(rule, ConsecutiveFrames) and rule.as_samples:
            rule = replace(rule, size=size)
        found += [
            HeldOutWindow(
                window.name,
                root,
                tuple(scenes[window.sequence][index] for index in window.frames),
            )
            for window in rule("manifest", numbers)
        ]
    return found, seen


def read_held_out(
    windows: Sequence[HeldOutWindow],
    *,
    prepare: PrepareViews,
    failed: list[Failure],
) -> Iterator[Truth]:
    """The truths of windows, read one after the other.

    Args:
        failed: Receives the frames that cannot be scored, when they are reached.
    """
    for name, root, rows in windows:
        frames = []
        for row in rows:
            try:
                view = read_view(row, root)
                check_view(view)
            except ImageError as error:
                failed.append(Failure(str(root / row.image_path), str(error)))
                continue
            frames.append(NamedView(row.sample_id, view, row.content))
        if not frames:
            continue
        world = f"{rows[0].dataset}/{rows[0].scene_id}"
        truth, unusable = truth_of(name, world, frames, prepare)
        failed += unusable
        if truth is not None:
            yield truth
