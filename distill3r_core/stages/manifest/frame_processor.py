"""Frames read, processed and written in parallel, and none of it twice."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill3r_core import config
from distill3r_core.data.frame_processing import Processed, Processing, process
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import DepthFile, Frame, Rig
from distill3r_core.errors import ImageError
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.depth import depth_format, write_depth
from distill3r_core.io.images.masks import write_mask
from distill3r_core.stages.manifest.frame_index import FrameEntry, FrameIndex, sources_of, stamp_of
from distill3r_core.system.threads import Pool, ahead, result_of

# Raised when what is written for the same settings changes, so that old entries are not reused.
_VERSION = 5
_LONGEST_NAME = 120  # characters; file systems take 255 bytes, and a suffix comes on top
_AHEAD = 4  # frames in flight per worker
_SETTINGS_KEPT = 256  # digests of settings: a scene has few
LOOKED_AT, WRITTEN = 1, 2  # states of a frame; 0: nothing was done with it


class FrameJob(NamedTuple):
    """A frame, and whether it is wanted or only looked at.

    Args:
        key: `<dataset>/<scene_id>/<frame>`.
        frame: To read.
        scene_id: Its scene.
        number: Its place there.
        write: Write the processed image; else see whether it could be.
        link: Name the original image in place of a copy.
        copied: Why there is a copy although originals are to be named; "": they are not to be.
    """

    key: str
    frame: Frame
    scene_id: str
    number: int
    write: bool
    link: bool = False
    copied: str = ""


@dataclass
class FrameOutcomes:
    """What became of the frames of a data set.

    Whatever concerns all frames is in the index, which is on the disk; this is what is left.

    Args:
        states: A byte for each frame of a scene, by scene id: LOOKED_AT or WRITTEN.
        damaged: Ids of scenes with a frame that cannot be used.
        refused: Reason for each frame that cannot be used, by key.
        notes: Remarks on single frames, by key.
        masked: Number of frames that were written with a mask.
    """

    states: dict[str, bytearray] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    masked: int = 0

    def add(self, job: FrameJob, entry: FrameEntry) -> None:
        """Take over what became of one frame."""
        self.states[job.scene_id][job.number] = LOOKED_AT if entry.row is None else WRITTEN
        if entry.refused is not None:
            self.damaged.add(job.scene_id)
            self.refused[entry.key] = entry.refused
        if entry.notes:
            self.notes[entry.key] = entry.notes
        if entry.row is not None and entry.row["mask_path"]:
            self.masked += 1


class FrameProcessor:
    """Turns frames into files, with a memory of what has been done.

    Args:
        folder: The manifest's.
        index: Its memory.
        settings: How frames are processed.
        images_only: Leave depth and pose alone.
        ignore_masks: Leave masks and alpha channels alone.
        trust: Accept frames whose parts contradict each other.
        check: Read each frame once, whatever is remembered of it.
        on_frame: Called after each frame.
    """

    def __init__(
        self,
        folder: Path,
        index: FrameIndex,
        settings: Processing,
        *,
        images_only: bool,
        ignore_masks: bool,
        trust: bool,
        check: bool,
        on_frame: Callable[[], None],
    ) -> None:
        self.folder, self.index, self.settings = folder, index, settings
        self.images_only, self.ignore_masks = images_only, ignore_masks
        self.trust, self.check, self.on_frame = trust, check, on_frame
        self.processed = 0
        self._read = set[str]()  # frames of this run
        self._made = functools.lru_cache(maxsize=_SETTINGS_KEPT)(self._made_by)

    def run(self, jobs: Iterable[FrameJob], outcomes: FrameOutcomes) -> None:
        """Do all jobs; frames that stand as they are are not read again."""
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        # Threads: decoding, encoding and NumPy let go of the interpreter.
        with Pool(workers) as pool:
            begun = ahead(
                lambda job: pool.submit(self._make, job),
                self._unknown(jobs, outcomes),
                _AHEAD * workers,
            )
            for job, entry in map(result_of, begun):
                self.index.add(entry)
                self.processed += 1
                if self.check:
                    self._read.add(entry.key)
                outcomes.add(job, entry)
                self.on_frame()

    def _unknown(self, jobs: Iterable[FrameJob], outcomes: FrameOutcomes) -> Iterator[FrameJob]:
        """The jobs that are to be done; the others are put to the outcomes."""
        for job in jobs:
            known = self._known(job)
            if known is None:
                yield job
                continue
            outcomes.add(job, known)
            self.on_frame()

    def _known(self, job: FrameJob) -> FrameEntry | None:
        if self.check and job.key not in self._read:
            return None
        entry = self.index.get(job.key)
        if entry is None or (job.write and entry.row is None and entry.refused is None):
            return None
        stands = entry.stands(self.folder, self._made_of(job), sources_of(job.frame))
        return entry if stands else None

    def _make(self, job: FrameJob) -> tuple[FrameJob, FrameEntry]:
        # Before reading: a file that changes meanwhile is then seen to have changed.
        sources, made = sources_of(job.frame), self._made_of(job)
        try:
            source = read_source_frame(
                job.frame,
                images_only=self.images_only,
                ignore_masks=self.ignore_masks,
                trust=self.trust,
            )
            result = process(source, self.settings)
        except ImageError as error:
            return job, FrameEntry(job.key, made, sources, refused=str(error))
        if not job.write:
            return job, FrameEntry(job.key, made, sources, notes=source.notes)
        row = {**self._write(job, result), "camera": job.frame.camera}
        names = [row[name] for name in ("image_path", "depth_path", "mask_path") if row[name]]
        written = {name: stamp for name in names if (stamp := stamp_of(self.folder / name))}
        if job.link and sources[0] is not None:  # as it was when it was read
            written[row["image_path"]] = sources[0]
        notes = (*source.notes, *((f"copied, {job.copied}",) if job.copied else ()))
        return job, FrameEntry(job.key, made, sources, row=row, written=written, notes=notes)

    def _write(self, job: FrameJob, result: Processed) -> Mapping[str, Any]:
        place = file_place(job.key)
        image_path, depth_path, mask_path, stored = f"images/{place}.png", "", "", None
        if job.link:
            image_path = linked_path(job.frame.image, self.folder)
        else:
            write_image(self.folder / image_path, result.image)
        if result.depth is not None:
            stored = depth_format(result.depth, result.unit)
            depth_path = f"depth/{place}.{'png' if stored == 'png16mm' else 'npy'}"
            write_depth(self.folder / depth_path, result.depth, unit=result.unit)
        if result.mask is not None:
            mask_path = f"masks/{place}.png"
            write_mask(self.folder / mask_path, result.mask)
        pose = result.world_from_cam
        return {
            "image_path": image_path,
            "K": result.intrinsics.ravel().tolist(),
            "H": result.image.shape[0],
            "W": result.image.shape[1],
            "K_source": result.intrinsics_source,
            "depth_path": depth_path,
            "depth_format": stored,
            "pose": None if pose is None else pose.ravel().tolist(),
            "unit": result.unit,
            "mask_path": mask_path,
            "picture": result.picture,
            "content": result.content,
        }

    def _made_of(self, job: FrameJob) -> str:
        """Digest of all settings that decide what is made of a frame."""
        frame = job.frame
        depth, pose = frame.depth, frame.pose
        # How a depth map is read, whatever its files are called.
        rules = None if depth is None else replace(depth, path=Path(), valid=None)
        is_cut = depth is not None and depth.valid is not None
        shown = (
            *(frame.pose_convention, frame.pose_axes, frame.unit, frame.camera),
            str(frame.turns),
            "link" if job.link else job.copied,
        )
        if pose is None or isinstance(pose, Path):
            kind = None if pose is None else "file"
            return self._made(frame.rig, rules, is_cut, kind, shown, frame.mask is not None)
        return self._made_by(frame.rig, rules, is_cut, pose, shown, frame.mask is not None)

    def _made_by(
        self,
        rig: Rig | None,
        rules: DepthFile | None,
        is_cut: bool,
        pose: Any,
        shown: tuple[str, ...],
        is_masked: bool,
    ) -> str:
        convention, axes, unit, camera, turns, link = shown
        facts = {
            "version": _VERSION,
            "processing": config.as_plain(self.settings),
            "images_only": self.images_only,
            "ignore_masks": self.ignore_masks,
            # Not whether K is nominal: what estimates it puts another one in its place.
            "rig": None
            if rig is None
            else {
                name: value
                for name, value in vars(rig).items()
                if name != "is_nominal" and (name != "is_stretched" or value)
            },
            "depth": None if rules is None else {**vars(rules), "path": None, "valid": is_cut},
            "pose": pose,
            "pose_convention": convention,
            "pose_axes": axes,
            "unit": unit,
            "camera": camera,
            "turns": turns,
            "mask": is_masked,
            **({"link": link} if link else {}),
        }
        text = json.dumps(facts, sort_keys=True, default=np.ndarray.tolist)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def linked_path(image: Path, folder: Path) -> str:
    """What a manifest in a folder calls an image that stays where it is.

    It is absolute, but for an image in the folder itself: a frame of a video.
    """
    if image.is_relative_to(folder):
        return image.relative_to(folder).as_posix()
    return str(image.absolute())


def file_place(key: str) -> str:
    """The path of a frame's files below `images/` and `depth/`, without an extension."""
    folder, _, name = key.rpartition("/")
    if len(name) > _LONGEST_NAME:
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return f"{folder}/{name}"
