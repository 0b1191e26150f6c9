"""Stage `manifest`: list data sets, cut them into samples, and write the processed frames."""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill3r_core import config
from distill3r_core.data import splits
from distill3r_core.data.conventions.check_data import DataCheck, check_data
from distill3r_core.data.frame_processing import Processing
from distill3r_core.data.frame_store import FrameStore
from distill3r_core.data.known_poses import read_known_poses
from distill3r_core.data.layouts import Scene, scan
from distill3r_core.data.listing import DatasetListing, list_dataset
from distill3r_core.data.manifest import ManifestRow, manifest_order, write_rows
from distill3r_core.data.planning import (
    DatasetPlan,
    by_count,
    by_pose,
    plan_dataset,
    rows_of,
)
from distill3r_core.data.windows import SAMPLES
from distill3r_core.errors import ConflictError, InputMissingError
from distill3r_core.files import remove_leftovers, replacing
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.stages.manifest import manifest_folder
from distill3r_core.stages.manifest.dry_run import expected_work
from distill3r_core.stages.manifest.file_poses import with_file_poses
from distill3r_core.stages.manifest.frame_index import FrameIndex, locked, stamp_of
from distill3r_core.stages.manifest.frame_jobs import expected_jobs, frame_jobs
from distill3r_core.stages.manifest.frame_processor import FrameOutcomes, FrameProcessor
from distill3r_core.stages.manifest.manifest_report import (
    ProcessedDataset,
    nothing_usable,
    report_of,
)
from distill3r_core.stages.manifest.manifest_settings import ManifestSettings
from distill3r_core.stages.manifest.sample_previews import write_previews
from distill3r_core.stages.manifest.unpacked_recordings import FOLDER as RECORDINGS
from distill3r_core.stages.manifest.unpacked_recordings import with_unpacked
from distill3r_core.stages.manifest.video_frames import FOLDER as VIDEOS
from distill3r_core.stages.manifest.video_frames import with_videos
from distill3r_core.system.garbage import collector_at_rest


def build_manifest(
    settings: ManifestSettings,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    check: bool = False,
    preview: bool = False,
    teacher_rate: float | None = None,
    progress: Progress = Silent(),
) -> Report:
    """List data sets, cut them into samples, and write processed frames and `manifest.csv`.

    What has been done for the same files and settings is not done again. Rows of roots that are
    not named stay.

    Args:
        settings: What to read, and how.
        dry_run: Write nothing; judge by the listing, and by a few images of each data set.
        overwrite: Replace a manifest that was made with other settings.
        trust: Continue with data whose parts contradict each other.
        check: Read files again although their sizes and times are those of the run before.
        preview: Write a contact sheet of the first sample of each scene.
        teacher_rate: Views a second that the teacher does, for the hours that a dry run expects.
        progress: Where to report to.

    Raises:
        InputMissingError: A root is not there.
        ConflictError: The folder holds a manifest that was made with other settings.
        NothingUsableError: Everything was rejected.
        ExtraMissingError: COLMAP's poses need the extra `colmap`.
        ContradictionError: Depth, poses, intrinsics and images do not fit together.
        RequestError: The output cannot be written, or a root is of the wrong kind.
        DiskFullError: There is no room for the frames.
    """
    for root in settings.roots:  # what is not there comes before what is in the way
        if not _place(root).exists():
            raise InputMissingError(f"no such file or folder: {_place(root)}")
    if settings.estimates_poses:
        from distill3r_core.geometry.pnp import require_pycolmap  # loads torch

        require_pycolmap("poses by COLMAP")
    path = settings.output / manifest_folder.MANIFEST
    plain = config.as_plain(settings)
    # Roots come and go; all other settings change the result.
    identity = {name: value for name, value in plain.items() if name not in ("roots", "output")}
    stamp = stamp_of(path)
    places = {str(_place(root)) for root in settings.roots}
    before = manifest_folder.read_before(
        settings.output,
        identity,
        overwrite=overwrite,
        remade=places,
        defaults=config.as_plain(ManifestSettings(roots=settings.roots)),
    )
    progress.begin("list", total=len(settings.roots), unit="roots")
    with collector_at_rest():  # what is listed stays, and may be millions of frames
        listings = list(_list_all(settings, progress))
    scans = manifest_folder.with_own_names(listings, before)
    known = None
    if settings.poses is not None and not settings.estimates_poses:
        known = read_known_poses(Path(settings.poses))
    filmed = {found.name for _, found in scans if found.videos}
    if dry_run:
        scans = _with_videos(settings, scans, progress, dry_run=True)
    # Neither frames of videos nor those of archives are known before something is written.
    hidden = any(found.packed or found.videos for _, found in scans)
    if known is not None and (dry_run or not hidden):
        scans = with_file_poses(known, scans, may_be_none=hidden, filmed=filmed)
    for root in sorted(set(before.forgotten) - {root for root, _ in scans}):
        progress.note(f"rows of {root} were made with other settings: they are dropped")
    if dry_run:
        made = [ProcessedDataset(root, _plan(settings, found, {})) for root, found in scans]
        expected = [
            expected_work(
                part.plan,
                _processing(settings, part.plan.listing),
                teacher_rate=teacher_rate,
                link=settings.link,
            )
            for part in made
        ]
        return report_of(settings, made, files=(), expected=expected)
    # Before anything is written, where neither poses are to be estimated nor an archive or a video
    # with depth or poses beside it is to be read first.
    late = settings.estimates_poses or any(
        found.packed or any(known or video.beside for video in found.videos) for _, found in scans
    )
    checks = [] if late else _check_all(settings, scans, trust, progress)
    with locked(settings.output), closing(FrameIndex(settings.output)) as index:
        if stamp_of(path) != stamp:
            raise ConflictError(f"another run has just written {path}", hint="run again")
        remove_leftovers(settings.output)
        scans = _with_videos(settings, scans, progress)
        given = settings.conventions
        scans = [
            (root, with_unpacked(found, settings.output, given, progress=progress))
            for root, found in scans
        ]
        if settings.estimates_poses:
            scans = _with_estimated_poses(settings, scans, check=check, progress=progress)
        elif known is not None and hidden:
            scans = with_file_poses(known, scans, filmed=filmed)
        if late:
            checks = _check_all(settings, scans, trust, progress)
        made, processed = _make_all(
            settings, scans, checks, index, trust=trust, check=check, progress=progress
        )
        kept = before.without({root for root, _ in scans}, _places(settings.output, made))
        refused = [item for part in made for item in (*part.refused, *part.left_out)]
        manifest_folder.write_rejected(settings.output, kept, refused)
        if not any(part.plan.images for part in made):
            raise nothing_usable(made, images_only=settings.images_only)
        roots: dict[str, list[str]] = {}
        for part in made:
            roots.setdefault(part.root, []).append(part.plan.listing.name)
        # The record first: a manifest without one would count as somebody else's.
        processing = Processing(resize_max=settings.resize_max)
        plans = {part.plan.listing.name: part.plan.digest for part in made}
        digest = before.digest
        if index.has_grown or not before.holds(roots, plans):
            with replacing(path, durable=True) as beside:
                digest = write_rows(beside, _all_rows(kept.rows, made, index))
                manifest_folder.write_record(
                    settings.output, kept, roots, processing, digest, plans=plans
                )
            index.compact()
        previews = write_previews(settings.output, progress=progress) if preview else []
    files = [path, *previews]
    files += [settings.output / manifest_folder.REJECTED] if refused else []
    finished = (check or not processed) and digest == before.digest
    return report_of(settings, made, files=files, finished=finished)


def _list_all(
    settings: ManifestSettings, progress: Progress
) -> Iterator[tuple[str, DatasetListing]]:
    """Pairs of a root's absolute path and a data set there."""
    store = FrameStore()
    roots = {_place(root): root for root in settings.roots}
    for place in roots:
        for dataset in scan(place, settings.layout, skip=settings.output):
            found = list_dataset(
                dataset,
                images_only=settings.images_only,
                conventions=settings.conventions,
                store=store,
            )
            own = dataset.sample_frac
            fraction = settings.sample_frac if own is None else own
            chosen = splits.choose(
                found.scenes, fraction, seed=settings.seed, name=_original_scene_id
            )
            yield str(place), replace(found, scenes=tuple(chosen))
        progress.advance()


def _with_videos(
    settings: ManifestSettings,
    scans: Sequence[tuple[str, DatasetListing]],
    progress: Progress,
    *,
    dry_run: bool = False,
) -> list[tuple[str, DatasetListing]]:
    folder, fps = settings.output, settings.video_fps
    return [
        (root, with_videos(found, folder, fps=fps, progress=progress, dry_run=dry_run))
        for root, found in scans
    ]


def _check_all(
    settings: ManifestSettings,
    scans: Sequence[tuple[str, DatasetListing]],
    trust: bool,
    progress: Progress,
) -> list[DataCheck]:
    return [
        check_data(
            found.name,
            {scene.scene_id: scene.frames for scene in found.scenes},
            images_only=settings.images_only,
            trust=trust,
            progress=progress,
        )
        for _, found in scans
    ]


def _original_scene_id(scene: Scene) -> str:
    """The original project's name of a scene, without the data set's name before it."""
    return scene.scene_id.replace("/", "_")


def _with_estimated_poses(
    settings: ManifestSettings,
    scans: Sequence[tuple[str, DatasetListing]],
    *,
    check: bool,
    progress: Progress,
) -> list[tuple[str, DatasetListing]]:
    from distill3r_core.stages.manifest.estimated_poses import with_estimated_poses  # loads torch

    return [
        (root, with_estimated_poses(found, settings.output, check=check, progress=progress))
        for root, found in scans
    ]


def _place(root: Path) -> Path:
    try:
        return root.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: Python before 3.13
        raise InputMissingError(f"{root} cannot be followed to a folder: {error}") from error


def _plan(
    settings: ManifestSettings, found: DatasetListing, unusable: Mapping[str, str]
) -> DatasetPlan:
    if settings.stride == "pose":
        windower = by_pose(settings.views, settings.samples_per_scene or SAMPLES)
    else:
        windower = by_count(settings.views, settings.samples_per_scene, settings.stride)
    return plan_dataset(
        found,
        unusable,
        windower=windower,
        images_only=settings.images_only,
        policy=settings.policy,
        val_scenes=settings.val_scenes,
        val_frames=settings.val_frames,
    )


def _make_all(
    settings: ManifestSettings,
    scans: Sequence[tuple[str, DatasetListing]],
    checks: Sequence[DataCheck],
    index: FrameIndex,
    *,
    trust: bool,
    check: bool,
    progress: Progress,
) -> tuple[list[ProcessedDataset], int]:
    """Make every data set; gives them and how many frames were read for it."""
    made, processed = [], 0
    for (root, found), checked in zip(scans, checks, strict=True):
        workshop = FrameProcessor(
            settings.output,
            index,
            _processing(settings, found),
            images_only=settings.images_only,
            ignore_masks=settings.ignore_masks,
            trust=trust,
            check=check,
            on_frame=progress.advance,
        )
        made.append(replace(_make(settings, root, found, workshop, progress), check=checked))
        processed += workshop.processed
    return made, processed


def _processing(settings: ManifestSettings, found: DatasetListing) -> Processing:
    return Processing(resize_max=found.dataset.resize_max or settings.resize_max)


def _make(
    settings: ManifestSettings,
    root: str,
    found: DatasetListing,
    workshop: FrameProcessor,
    progress: Progress,
) -> ProcessedDataset:
    """Read and write the frames that windows use.

    A frame that turns out to be unusable moves the windows of its scene, so that others are wanted.
    All frames of such a scene are then read, so that they move once.
    """
    outcomes = FrameOutcomes()
    plan = _plan(settings, found, outcomes.refused)
    # By motion, a frame that cannot be read has moved the windows already.
    look = settings.stride == "pose"
    label, total = found.name, expected_jobs(plan, look=look)
    while True:
        jobs = frame_jobs(plan, outcomes, link=settings.link, look=look)
        if (first := next(jobs, None)) is None:
            return ProcessedDataset(root, plan, outcomes)
        progress.begin(label, total=total, unit="frames")
        refused = len(outcomes.refused)
        workshop.run(itertools.chain((first,), jobs), outcomes)
        if len(outcomes.refused) == refused:
            return ProcessedDataset(root, plan, outcomes)
        plan = _plan(settings, found, outcomes.refused)
        label, total = f"{found.name}: frames of damaged scenes", None


def _places(folder: Path, made: Sequence[ProcessedDataset]) -> set[str]:
    """Folders whose files belong to data sets: their own, and those of what was unpacked."""
    names = [part.plan.listing.name for part in made]
    unpacked = {
        str((folder / kind / name).absolute()) for kind in (VIDEOS, RECORDINGS) for name in names
    }
    return {str(part.plan.listing.dataset.root.absolute()) for part in made} | unpacked


def _all_rows(
    kept: Iterable[ManifestRow], made: Sequence[ProcessedDataset], index: FrameIndex
) -> Iterator[ManifestRow]:
    """Rows of earlier runs and of this one, in the order of the manifest."""
    parts = sorted(made, key=lambda part: part.plan.listing.name)
    rows = itertools.chain.from_iterable(_rows(part, index) for part in parts)
    return heapq.merge(kept, rows, key=manifest_order)


def _rows(part: ProcessedDataset, index: FrameIndex) -> Iterator[ManifestRow]:
    """The rows of a data set, in the order of the manifest."""

    def cells(key: str) -> dict[str, Any]:
        entry = index.get(key)
        assert entry is not None and entry.row is not None, key
        pose = entry.row["pose"]
        return {
            **entry.row,
            "K": tuple(entry.row["K"]),
            "pose": None if pose is None else tuple(pose),
        }

    for scene in sorted(part.plan.scenes, key=lambda scene: scene.scene.scene_id):
        yield from sorted(rows_of(part.plan, scene, cells), key=manifest_order)
