"""A data set whose scenes have been listed."""

import collections
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distill3r_core.data.conventions.readings import (
    Conventions,
    video_with_conventions,
    with_conventions,
)
from distill3r_core.data.frame_store import FrameStore
from distill3r_core.data.layouts import (
    Dataset,
    Frame,
    Layout,
    LeftOut,
    Note,
    PackedScene,
    Refused,
    Scene,
    VideoScene,
)
from distill3r_core.files import is_there
from distill3r_core.report import counted


@dataclass(frozen=True, eq=False)
class DatasetListing:
    """Scenes of a data set, and what was left out while they were listed.

    Args:
        dataset: The data set.
        scenes: Its scenes with their frames.
        videos: Scenes whose frames are still in a video.
        packed: Scenes whose files are still in an archive.
        refused: Files and folders that cannot be read.
        left_out: Files that are no input of this layout.
        notes: Remarks for the user.
        store: Keeps the frames of its scenes.
    """

    dataset: Dataset
    scenes: tuple[Scene, ...]
    videos: tuple[VideoScene, ...] = ()
    refused: tuple[Refused, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    packed: tuple[PackedScene, ...] = ()
    store: FrameStore = field(default_factory=FrameStore)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.dataset.name

    @property
    def layout(self) -> Layout:
        """Layout that has read it."""
        assert self.dataset.layout is not None, "set by layouts.scan"
        return self.dataset.layout

    def key_of(self, scene: Scene, frame: Frame) -> str:
        """The name of a frame among those of all data sets."""
        return f"{self.name}/{scene.scene_id}/{frame.name}"

    def with_scenes(self, scenes: Iterable[Scene], **changes: Any) -> "DatasetListing":
        """The listing with other scenes, of which only one at a time needs to be in memory.

        Args:
            scenes: In place of its own.
            changes: Other fields that change.
        """
        known = {id(scene) for scene in self.scenes}  # their frames are kept already
        kept = (
            scene if id(scene) in known else replace(scene, frames=self.store.keep(scene.frames))
            for scene in scenes
        )
        return replace(self, scenes=tuple(kept), **changes)


def list_dataset(
    dataset: Dataset,
    *,
    images_only: bool = False,
    conventions: Conventions = Conventions(),
    store: FrameStore | None = None,
) -> DatasetListing:
    """List all scenes of a data set.

    Args:
        dataset: The data set.
        images_only: Depth and poses are not used: scenes of which only these are damaged are taken.
        conventions: How frames are read, in place of what their layout says.
        store: Keeps the frames; None: one of its own.
    """
    store = store or FrameStore()
    scenes: list[Scene] = []
    ids: set[str] = set()

    def own_id(scene_id: str) -> str:
        name, number = scene_id, 2
        while name in ids:
            name, number = f"{scene_id}-{number}", number + 1
        ids.add(name)
        if name != scene_id:
            notes.append(f"{dataset.name}: another scene is called {scene_id}: this one is {name}")
        return name

    def take(scene: Scene) -> None:
        frames = with_unique_names(with_conventions(scene.frames, conventions))
        own = own_id(scene.scene_id)
        scenes.append(replace(scene, scene_id=own, frames=store.keep(frames)))

    videos: list[VideoScene] = []
    packed: list[PackedScene] = []
    notes: list[str] = []
    left_out: list[LeftOut] = []
    refused: dict[Refused, None] = {}  # a layout may come across the same file twice
    unposed = 0
    for found in dataset.list_scenes():
        match found:
            case Scene():
                posed = _without_absent_poses(found)
                unposed += posed is not found
                take(posed)
            case VideoScene():
                video = video_with_conventions(found, conventions)
                videos.append(replace(video, scene_id=own_id(video.scene_id)))
            case PackedScene():
                packed.append(replace(found, scene_id=own_id(found.scene_id)))
            case Refused(images=Scene() as scene) if images_only:
                take(scene)
                notes.append(f"{scene.scene_id}: its images alone are taken: {found.reason}")
            case Refused():
                refused[found] = None
            case LeftOut():
                left_out.append(found)
            case Note():
                notes.append(found.text)
    if unposed:
        notes.append(
            f"{dataset.name}: no frame of {counted(unposed, 'scene', of=len(scenes))} has a pose "
            "(--poses colmap estimates them)"
        )
    return DatasetListing(
        dataset,
        tuple(scenes),
        tuple(videos),
        tuple(refused),
        tuple(left_out),
        tuple(notes),
        tuple(packed),
        store,
    )


def with_unique_names(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Frames of which no two have the same name, whatever the case of its letters.

    Processed images are named by their frames, and file systems may not tell upper from lower case.

    Args:
        frames: Of one scene. Where names repeat (`a.png` beside `a.jpg`), each of them gets the
            suffix of its image: `a-png`, `a-jpg`; and a number where that is not enough: of
            `s/c.jpg` and `s_c.jpg`, the second one is `s_c-jpg-2`.
    """
    counts = collections.Counter(frame.name.casefold() for frame in frames)
    if len(counts) == len(frames):
        return frames
    taken = {name for name, count in counts.items() if count == 1}
    named: list[Frame] = []
    for frame in frames:
        name = frame.name
        if counts[name.casefold()] > 1:
            first = name = f"{name}-{frame.image.suffix.removeprefix('.').lower()}"
            number = 2
            while name.casefold() in taken:
                name, number = f"{first}-{number}", number + 1
            taken.add(name.casefold())
        named.append(replace(frame, name=name))
    return tuple(named)


def _without_absent_poses(scene: Scene) -> Scene:
    """A scene whose layout names pose files of which none is there, without them.

    Where some are there, a frame whose file is missing is damaged, and refused when it is read.
    """
    files = [frame.pose for frame in scene.frames]
    if not files or any(not isinstance(pose, Path) or is_there(pose) for pose in files):
        return scene
    return replace(scene, frames=tuple(replace(frame, pose=None) for frame in scene.frames))
