"""Stage `manifest`: list data sets, cut them into samples, and write the processed frames."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config, paths
from distill3r_core.data import splits
from distill3r_core.data.conventions.check_data import DataCheck, check_data
from distill3r_core.data.conventions.readings import (
    Conventions,
    parse_image_size,
    with_conventions,
)
from distill3r_core.data.frame_processing import Processing
from distill3r_core.data.known_poses import read_known_poses, with_known_poses
from distill3r_core.data.layouts import AUTO, PoseAxes, PoseConvention, check_layout, scan
from distill3r_core.data.listing import DatasetListing, list_dataset
from distill3r_core.data.manifest import ManifestRow, manifest_text
from distill3r_core.data.planning import (
    DatasetPlan,
    by_count,
    by_pose,
    plan_dataset,
    rows_of,
)
from distill3r_core.data.windows import SAMPLES, PolicyName
from distill3r_core.errors import ConfigError, ConflictError, InputMissingError, RequestError
from distill3r_core.files import remove_leftovers, write_text
from distill3r_core.geometry.pnp import require_pycolmap
from distill3r_core.io.images.decode import MIN_SIDE
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.stages.manifest import manifest_folder
from distill3r_core.stages.manifest.estimated_poses import COLMAP, with_estimated_poses
from distill3r_core.stages.manifest.frame_index import FrameEntry, FrameIndex, locked, stamp_of
from distill3r_core.stages.manifest.frame_processor import FrameJob, FrameProcessor
from distill3r_core.stages.manifest.manifest_report import (
    ProcessedDataset,
    nothing_usable,
    report_of,
)
from distill3r_core.stages.manifest.sample_previews import write_previews
from distill3r_core.stages.manifest.video_frames import with_videos


@dataclass(frozen=True, config=config.STRICT)
class ManifestSettings:
    """Settings of `manifest`."""

    roots: tuple[Path, ...] = Field(min_length=1)
    output: Path = paths.DATA
    layout: Annotated[str, config.reads(check_layout)] = AUTO
    views: int = Field(default=20, ge=2)  # per sample
    stride: int | Literal["pose"] | None = None  # between views; None: the data set's policy
    # Of each split; None: 5, and as many as it takes to use a short recording whole.
    samples_per_scene: int | None = Field(default=None, ge=1)
    sample_frac: float = Field(default=1.0, gt=0, le=1)  # of the scenes, drawn by the seed
    val_scenes: float = Field(default=0.1, ge=0, le=1)  # 0: hold nothing out
    val_frames: str | None = None  # last:N or every:K, inside scenes
    images_only: bool = False
    ignore_masks: bool = False  # neither masks nor alpha channels
    video_fps: float = Field(default=2.0, gt=0)  # frames of each second of a video
    resize_max: int = Field(default=960, ge=MIN_SIDE)  # long edge
    pose_convention: PoseConvention | None = None  # of stored poses; None: the layout's
    pose_axes: PoseAxes | None = None  # camera axes of stored poses; None: the layout's
    depth_scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # units in a meter
    intrinsics_size: Annotated[str, config.reads(parse_image_size)] | None = None  # WxH of K
    # Instead of the data's own: a trajectory, COLMAP model or cameras.json, or "colmap".
    poses: str | None = Field(default=None, min_length=1)
    policy: PolicyName | None = None  # None: the data set's; "release" is the original project's
    seed: int = Field(default=0, ge=0)

    @field_validator("roots", "output", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        # As a path the empty text would be the folder that this runs in.
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            raise ValueError("an empty name is no folder")
        return value

    @field_validator("val_frames")
    @classmethod
    def _known_rule(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                splits.parse_rule(value)
            except ConfigError as error:
                raise ValueError(f"{value!r} is not {error.hint}") from error
        return value

    @field_validator("stride")
    @classmethod
    def _at_least_one(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 1:
            raise ValueError(
                f"{value} is too small; it takes a whole number of at least 1, or pose"
            )
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "ManifestSettings":
        if self.stride is not None and self.policy == "release":
            raise ValueError("stride: the policy release has none")
        if self.stride == "pose" and self.images_only:
            raise ValueError("stride: pose needs the poses that images_only leaves out")
        if self.estimates_poses and self.images_only:
            raise ValueError("poses: colmap estimates what images_only leaves out")
        return self

    @property
    def estimates_poses(self) -> bool:
        """Whether COLMAP is run; a file of its name is `./colmap`."""
        return self.poses == COLMAP

    @property
    def conventions(self) -> Conventions:
        """Conventions that replace those of the layouts."""
        size = self.intrinsics_size
        return Conventions(
            pose_convention=self.pose_convention,
            pose_axes=self.pose_axes,
            depth_scale=self.depth_scale,
            intrinsics_size=None if size is None else parse_image_size(size),
        )


def build_manifest(
    settings: ManifestSettings,
    *,
    dry_run: bool = False,
    overwrite: bool = False,
    trust: bool = False,
    check: bool = False,
    preview: bool = False,
    progress: Progress = Silent(),
) -> Report:
    """List data sets, cut them into samples, and write processed frames and `manifest.csv`.

    What has been done for the same files and settings is not done again. Rows of roots that are
    not named stay.

    Args:
        settings: What to read, and how.
        dry_run: Write nothing; judge by the listing alone.
        overwrite: Replace a manifest that was made with other settings.
        trust: Continue with data whose parts contradict each other.
        check: Read files again although their sizes and times are those of the run before.
        preview: Write a contact sheet of the first sample of each scene.
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
            raise InputMissingError(f"no such folder: {_place(root)}")
    if settings.estimates_poses:
        require_pycolmap("poses by COLMAP")
    path = settings.output / manifest_folder.MANIFEST
    plain = config.as_plain(settings)
    # Roots come and go; all other settings change the result.
    identity = {name: value for name, value in plain.items() if name not in ("roots", "output")}
    stamp = stamp_of(path)
    before = manifest_folder.read_before(settings.output, identity, overwrite=overwrite)
    progress.begin("list", total=len(settings.roots), unit="roots")
    scans = manifest_folder.with_own_names(list(_list_all(settings, progress)), before)
    scans = _with_poses(settings, scans)
    for root in sorted(set(before.forgotten) - {root for root, _ in scans}):
        progress.note(f"rows of {root} were made with other settings: they are dropped")
    if dry_run:
        made = [ProcessedDataset(root, _plan(settings, found, set()), {}) for root, found in scans]
        return report_of(settings, made, files=(), dry_run=True)
    # Before anything is written; poses that are to be estimated are checked when they are.
    checks = [] if settings.estimates_poses else _check_all(settings, scans, trust, progress)
    with locked(settings.output):
        if stamp_of(path) != stamp:
            raise ConflictError(f"another run has just written {path}", hint="run again")
        remove_leftovers(settings.output)
        scans = [
            (root, with_videos(found, settings.output, fps=settings.video_fps, progress=progress))
            for root, found in scans
        ]
        if settings.estimates_poses:
            scans = [
                (
                    root,
                    with_estimated_poses(found, settings.output, check=check, progress=progress),
                )
                for root, found in scans
            ]
            checks = _check_all(settings, scans, trust, progress)
        index = FrameIndex(settings.output)
        try:
            made, processed = _make_all(
                settings, scans, checks, index, trust=trust, check=check, progress=progress
            )
        finally:
            index.close()
        kept = before.without({root for root, _ in scans})
        refused = [item for part in made for item in (*part.refused, *part.left_out)]
        manifest_folder.write_rejected(settings.output, kept, refused)
        if not any(part.plan.images for part in made):
            raise nothing_usable(made, images_only=settings.images_only)
        rows = [*kept.rows, *(row for part in made for row in _rows(part))]
        roots: dict[str, list[str]] = {}
        for part in made:
            roots.setdefault(part.root, []).append(part.plan.listing.name)
        # The record first: a manifest without one would count as somebody else's.
        processing = Processing(resize_max=settings.resize_max)
        text = manifest_text(rows)
        manifest_folder.write_record(settings.output, kept, roots, processing, text)
        write_text(path, text, durable=True)
        index.compact()
        previews = write_previews(settings.output, progress=progress) if preview else []
    files = [path, *previews]
    files += [settings.output / manifest_folder.REJECTED] if refused else []
    finished = (check or not processed) and text == before.text
    return report_of(settings, made, files=files, finished=finished)


def _list_all(
    settings: ManifestSettings, progress: Progress
) -> Iterator[tuple[str, DatasetListing]]:
    """Pairs of a root's absolute path and a data set there."""
    roots = {_place(root): root for root in settings.roots}
    for place in roots:
        for dataset in scan(place, settings.layout, skip=settings.output):
            found, own = list_dataset(dataset), dataset.sample_frac
            fraction = settings.sample_frac if own is None else own
            chosen = splits.choose(found.scenes, fraction, seed=settings.seed)
            scenes = [
                replace(scene, frames=with_conventions(scene.frames, settings.conventions))
                for scene in chosen
            ]
            yield str(place), replace(found, scenes=tuple(scenes))
        progress.advance()


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


def _with_poses(
    settings: ManifestSettings, scans: Sequence[tuple[str, DatasetListing]]
) -> list[tuple[str, DatasetListing]]:
    """The data sets with the poses of a file, and a note that says how many frames have one.

    Raises:
        RequestError: The file cannot be read, or knows none of the frames.
    """
    if settings.poses is None or settings.estimates_poses:
        return list(scans)
    known = read_known_poses(Path(settings.poses))
    posed, total = [], 0
    for root, listing in scans:
        listing, (found, frames) = with_known_poses(listing, known)
        note = f"{listing.name}: {found} of {frames} frames have a pose in {settings.poses}"
        posed.append((root, replace(listing, notes=(*listing.notes, note))))
        total += found
    if not total and not any(listing.videos for _, listing in posed):
        raise RequestError(
            f"{settings.poses} has a pose of none of the frames",
            hint="names of images, or time stamps in them, must be those of the file",
        )
    return posed


def _place(root: Path) -> Path:
    try:
        return root.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: Python before 3.13
        raise InputMissingError(f"{root} cannot be followed to a folder: {error}") from error


def _plan(
    settings: ManifestSettings, found: DatasetListing, unusable: Collection[str]
) -> DatasetPlan:
    if settings.stride == "pose":
        windower = by_pose(settings.views, settings.samples_per_scene or SAMPLES)
    else:
        windower = by_count(settings.views, settings.samples_per_scene, settings.stride)
    return plan_dataset(
        found,
        unusable,
        windower=windower,
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
        total = sum(len(scene.frames) for scene in found.scenes)
        progress.begin(found.name, total=total, unit="frames")
        workshop = FrameProcessor(
            settings.output,
            index,
            Processing(resize_max=found.dataset.resize_max or settings.resize_max),
            images_only=settings.images_only,
            ignore_masks=settings.ignore_masks,
            trust=trust,
            check=check,
            on_frame=progress.advance,
        )
        made.append(replace(_make(settings, root, found, workshop), check=checked))
        processed += workshop.processed
    return made, processed


def _make(
    settings: ManifestSettings, root: str, found: DatasetListing, workshop: FrameProcessor
) -> ProcessedDataset:
    """Read all frames and write those that windows use.

    A frame that turns out to be unusable moves the windows, so that others are wanted: this is
    repeated until it stands.
    """
    entries: dict[str, FrameEntry] = {}
    while True:
        unusable = {key for key, entry in entries.items() if entry.refused}
        plan = _plan(settings, found, unusable)
        wanted = {
            found.key_of(scene.scene, scene.frames[index])
            for scene in plan.scenes
            for index in scene.wanted
        }
        jobs = [
            FrameJob(key, frame, write=key in wanted)
            for scene in found.scenes
            for frame in scene.frames
            if (key := found.key_of(scene, frame)) not in entries
            or (key in wanted and entries[key].row is None)
        ]
        if not jobs:
            return ProcessedDataset(root, plan, entries)
        entries |= workshop.run(jobs)


def _rows(part: ProcessedDataset) -> list[ManifestRow]:
    def cells(key: str) -> dict[str, Any]:
        row = part.entries[key].row
        assert row is not None, key
        pose = row["pose"]
        return {**row, "K": tuple(row["K"]), "pose": None if pose is None else tuple(pose)}

    return rows_of(part.plan, cells)
