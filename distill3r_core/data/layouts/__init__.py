"""Layouts: how data sets lie on disk, and which layout a folder has."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from distill3r_core.data.layouts import images, pattern, rgbd, sevenscenes, video
from distill3r_core.data.layouts.folders import folders_of, one_dataset
from distill3r_core.data.layouts.marked_scenes import has_media, marked_dataset, marked_folder
from distill3r_core.data.layouts.published import (
    arkitscenes,
    blendedmvs,
    co3d,
    dtu,
    habitat,
    matterport,
    megadepth,
    megadepth_undistorted,
    scannetpp,
    stereolunar,
    twelvescenes,
)
from distill3r_core.data.layouts.recordings import (
    colmap,
    nerfstudio,
    open3d,
    polycam,
    record3d,
    scannet,
    strayscanner,
    tum,
)
from distill3r_core.data.layouts.records import (
    Dataset,
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    PackedScene,
    PoseAxes,
    PoseConvention,
    Refused,
    Rig,
    Scene,
    VideoScene,
)
from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.io.images.media import LeftOut
from distill3r_core.registry import Registry

LAYOUTS: Registry[Layout] = Registry("layout", entry_points="distill3r.layouts")
# The more particular before those that ask for less: `rgbd` would take a sequence of `tum`.
for built_in in (
    *(pattern, video),
    *(twelvescenes, sevenscenes, co3d, scannetpp, habitat, matterport),
    *(megadepth, megadepth_undistorted, blendedmvs, arkitscenes, dtu, stereolunar),
    *(tum, scannet, polycam, record3d, strayscanner, open3d, nerfstudio, colmap),
    rgbd,
    images,
):
    LAYOUTS.add(built_in.LAYOUT.name, built_in.LAYOUT)
AUTO = "auto"


def check_layout(name: str) -> None:
    """Check that a layout of this name exists.

    Raises:
        ConfigError: It is neither a layout nor "auto".
    """
    if name != AUTO:
        LAYOUTS[name]


def detect_layout(root: Path) -> tuple[Layout, str]:
    """Find out the layout of a data set.

    Returns:
        The layout, and why it was recognized. Layouts are tried in the order in which they were
        registered, then late marks, and those that take any folder last.

    Raises:
        InputMissingError: There is nothing at `root`.
        RequestError: It is a file of no layout.
    """
    if not root.exists():
        raise InputMissingError(f"no such file or folder: {root}")
    # Once for all layouts: a tree may have millions of files.
    folders = tuple(folders_of(root)) if root.is_dir() else ()
    layouts = [LAYOUTS[name] for name in LAYOUTS]

    def reason_for(layout: Layout) -> str | None:
        if layout.detect is not None:
            return layout.detect(root)
        return None if layout.mark is None else marked_folder(folders, root, layout.mark)

    def late_reason(layout: Layout) -> str | None:
        reason = layout.late_mark and marked_folder(folders, root, layout.late_mark)
        return reason if reason and not any(map(has_media, folders)) else None

    tries = [(layout, reason_for) for layout in layouts if not layout.is_fallback]
    tries += [(layout, late_reason) for layout in layouts]
    tries += [(layout, reason_for) for layout in layouts if layout.is_fallback]
    for layout, reason_of in tries:
        if reason := reason_of(layout):
            return layout, reason
    raise RequestError(f"{root} is a file", hint="name its folder, a video, or a data_paths.yaml")


def scan(
    root: Path, layout: str | Layout = AUTO, *, skip: Path | None = None
) -> tuple[Dataset, ...]:
    """Find the data sets at a path; their scenes are listed when they are asked for.

    Args:
        root: A folder, or a file where the layout takes one.
        layout: A layout or its name; "auto" detects it.
        skip: A folder below it to leave out: that of the results.

    Raises:
        ConfigError: No layout has this name, or a file that describes data sets is invalid.
        InputMissingError: There is nothing at `root`.
        RequestError: The layout needs a folder and `root` is a file, or the other way round.
    """
    reason = None
    if layout == AUTO:
        layout, reason = detect_layout(root)
    elif isinstance(layout, str):
        layout = LAYOUTS[layout]
    if not root.exists():
        raise InputMissingError(f"no such file or folder: {root}")
    if root.is_file() != layout.takes_file:
        kind = "file" if root.is_file() else "folder"
        raise RequestError(f"{root} is a {kind}, which layout {layout.name!r} does not take")
    return tuple(replace(found, layout=layout, reason=reason) for found in layout.scan(root, skip))


def frames_for_test(
    root: Path, layout: str | Layout = AUTO, *, all_splits: bool = False
) -> Iterator[tuple[str, Sequence[Frame]]]:
    """The sequences that a data set's own split files name as test data, each with its frames.

    Without split files that is every sequence, whatever `manifest` made of the data set.

    Args:
        root: Folder of the data set.
        layout: A layout or its name; "auto" detects it.
        all_splits: Every sequence, whatever the split files say.

    Yields:
        Pairs of `<dataset>/<scene_id>` and unread frames, in order. `read_source_frame` reads a
        frame, and `process` brings it to its processed form.

    Raises:
        InputMissingError: There is nothing at `root`.
        RequestError: All frames are still in videos or archives.
    """
    scenes, unread = 0, list[Path]()
    for dataset in scan(root, layout):
        for found in dataset.list_scenes():
            if isinstance(found, VideoScene | PackedScene):
                unread.append(found.path)
            if isinstance(found, Scene):
                scenes += 1
                if found.is_test or all_splits:
                    yield f"{dataset.name}/{found.scene_id}", found.frames
    if unread and not scenes:
        raise RequestError(
            f"{unread[0]}: its frames are in a video or an archive, which is not unpacked here",
            hint="make a manifest and a cache of it, and score held-out frames: distill3r manifest "
            "ROOT --val-frames last:40, cache, train, eval --protocol held-out",
        )


__all__ = [
    "AUTO",
    "LAYOUTS",
    "Dataset",
    "DepthFile",
    "Frame",
    "Layout",
    "LeftOut",
    "Listed",
    "Note",
    "PackedScene",
    "PoseAxes",
    "PoseConvention",
    "Refused",
    "Rig",
    "Scene",
    "VideoScene",
    "detect_layout",
    "frames_for_test",
    "marked_dataset",
    "one_dataset",
    "scan",
]
