"""Layouts: how data sets lie on the disk, and which of them a folder has."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill3r_core.data.layouts import images, pattern, rgbd, sevenscenes
from distill3r_core.data.layouts.base import Frame, Scan, Scene
from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.registry import Registry


@dataclass(frozen=True)
class Layout:
    """A way in which data lies on the disk."""

    detect: Callable[[Path], bool]
    scan: Callable[..., tuple[Scan, ...]]


LAYOUTS: Registry[Layout] = Registry("layout")
# In the order in which they are tried: the most particular first.
for module in (pattern, sevenscenes, rgbd, images):
    LAYOUTS.add(module.NAME, Layout(module.detect, module.scan))
AUTO = "auto"


def check_layout(name: str) -> None:
    """Know a name.

    Raises:
        ConfigError: No layout has it, nor is it "auto".
    """
    if name != AUTO:
        LAYOUTS[name]


def detect_layout(root: Path) -> str:
    """The name of the layout of a data set.

    Raises:
        InputMissingError: There is nothing at `root`.
        RequestError: It is a file of no kind that a data set is described by.
    """
    if not root.exists():
        raise InputMissingError(f"no such folder: {root}")
    for name in LAYOUTS:
        if LAYOUTS[name].detect(root):
            return name
    raise RequestError(f"{root} is a file", hint="name its folder, or a data_paths.yaml")


def scan(root: Path, layout: str = AUTO, *, skip: Path | None = None) -> tuple[Scan, ...]:
    """List the data sets at a place; one, but for the layout `pattern`.

    Args:
        root: A folder, or a YAML file.
        layout: By name; "auto" finds out.
        skip: A folder below it to leave out: that of the results.

    Raises:
        ConfigError: No layout has this name.
        InputMissingError: There is nothing at `root`.
        RequestError: The layout needs a folder and `root` is a file, or the other way round.
    """
    found = detect_layout(root) if layout == AUTO else layout
    entry = LAYOUTS[found]
    if not root.exists():
        raise InputMissingError(f"no such folder: {root}")
    if root.is_file() != (found == pattern.NAME):
        kind = "file" if root.is_file() else "folder"
        raise RequestError(f"{root} is a {kind}, which layout {found!r} does not take")
    return entry.scan(root, skip=skip)


def frames_for_test(root: Path, layout: str = AUTO) -> tuple[tuple[str, tuple[Frame, ...]], ...]:
    """The sequences that a data set's own split files name as test data, each with its frames.

    Without split files that is every sequence. Whatever `manifest` made of the data set.

    Args:
        root: Of the data set.
        layout: By name; "auto" finds out.

    Returns:
        Pairs of `<dataset>/<scene_id>` and unread frames, in order; `data.source.read_source_frame`
        reads them and `data.process.process` brings them to their processed form.

    Raises:
        InputMissingError: There is nothing at `root`.
    """
    return tuple(
        (f"{found.dataset}/{scene.scene_id}", scene.frames)
        for found in scan(root, layout)
        for scene in found.scenes
        if scene.is_test
    )


__all__ = [
    "AUTO",
    "LAYOUTS",
    "Frame",
    "Layout",
    "Scan",
    "Scene",
    "detect_layout",
    "frames_for_test",
    "scan",
]
