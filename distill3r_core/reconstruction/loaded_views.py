"""Pictures and video frames as the student gets them, with the way back to the full-size ones."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from distill3r_core.errors import ImageError
from distill3r_core.io.images.decode import check_size, read_image
from distill3r_core.io.images.fit import Fit, Fitted, fit_for, fit_image
from distill3r_core.io.images.inputs import InputFile, evenly
from distill3r_core.io.images.video import read_frames
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.threads import Pool, ahead, result_of

_DECODERS = 4  # threads; Pillow decodes outside the interpreter's lock
_FILM_WIDTH = 36.0  # millimetres, to which EXIF's equivalent focal length refers
# In a file's name, and white space too: COLMAP's text format ends a name at it.
_UNSAFE = re.compile(r'[\\/:*?"<>|\s\x00-\x1f]')
_CHANGED = "it has changed in the meantime"
_LONGEST_NAME = 160  # bytes: files get a suffix, and more while they are written

Pixels = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class LoadedView:
    """One picture, fitted.

    Args:
        name: Unique among the views, fit for a file's name.
        path: Of the picture or video; None where the caller gave pixels.
        frame: Number within the video, from 0.
        size: Rows and columns of the upright full-size picture.
        exif_focal: In its pixels, where the camera wrote one.
        fitted: What the student sees.
        pixels: The full-size picture, where the caller gave it.
    """

    name: str
    path: Path | None
    frame: int | None
    size: tuple[int, int]
    exif_focal: float | None
    fitted: Fitted
    pixels: Pixels | None = None


@dataclass(frozen=True)
class Loaded:
    """What could be read, and what could not."""

    views: tuple[LoadedView, ...]
    failed: tuple[Failure, ...]


def load_views(
    sources: Sequence[InputFile],
    fit: Fit,
    *,
    fps: float | None = None,
    max_views: int | None = None,
    progress: Progress | None = None,
) -> Loaded:
    """Read and fit pictures and videos; what cannot be read is named and left out.

    Args:
        sources: In the order of the views.
        fit: How pictures become the student's input; each keeps its own orientation.
        fps: Frames taken of each second of a video; None: all.
        max_views: Evenly spread over all pictures and frames.
        progress: Reports every source, and of what was decided in reading it.
    """
    progress = progress or Silent()
    if max_views is not None and all(source.kind == "picture" for source in sources):
        sources = [sources[index] for index in evenly(len(sources), max_views)]
    views: list[LoadedView] = []
    failed: list[Failure] = []
    notes: list[str] = []
    progress.begin("load", total=len(sources), unit="files")

    def load(source: InputFile) -> list[LoadedView] | Failure:
        try:
            return _load(source, fit, fps, notes.append, pool.check)
        except ImageError as error:
            return Failure(str(source.path), error.message)

    with Pool(_DECODERS) as pool:
        # never more than a few pictures in flight
        begun = ahead(lambda source: pool.submit(load, source), sources, 2 * _DECODERS)
        for outcome in map(result_of, begun):
            if isinstance(outcome, Failure):
                failed.append(outcome)
            else:
                views += outcome
            progress.advance(views=str(len(views)))
    for note in sorted(notes):  # the threads that took them finish in any order
        progress.note(note)
    kept = [views[index] for index in evenly(len(views), max_views)]
    return Loaded(tuple(_with_unique_names(kept)), tuple(failed))


def view_of_pixels(pixels: Pixels, fit: Fit, *, name: str) -> LoadedView:
    """A view of upright pixels that a caller has at hand.

    Raises:
        ImageError: They are too few for a patch.
    """
    height, width, _ = pixels.shape
    check_size((height, width))
    fitted = fit_image(pixels, fit_for([(height, width)], fit), portrait=height > width)
    return LoadedView(name, None, None, (height, width), None, fitted, pixels)


def full_pictures(views: Sequence[LoadedView]) -> Iterator[tuple[LoadedView, Pixels]]:
    """The upright full-size pictures of views, read again; a video is decoded once.

    Raises:
        ImageError: A file has changed since it was loaded.
    """
    remaining = list(views)
    while remaining:
        first = remaining[0]
        if first.pixels is not None:
            yield first, first.pixels
            remaining = remaining[1:]
            continue
        assert first.path is not None, "a view comes from pixels or from a file"
        if first.frame is None:
            yield _unchanged(first, read_image(first.path).pixels)
            remaining = remaining[1:]
            continue
        of_video = {view.frame: view for view in remaining if view.path == first.path}
        for number, pixels in read_frames(first.path, fps=None):
            if number in of_video:
                yield _unchanged(of_video.pop(number), pixels)
        if of_video:
            raise ImageError(f"{first.path} has fewer frames than before: {_CHANGED}")
        remaining = [view for view in remaining if view.path != first.path]


def _unchanged(view: LoadedView, pixels: Pixels) -> tuple[LoadedView, Pixels]:
    if pixels.shape[:2] != view.size:
        height, width = view.size
        raise ImageError(f"{view.path} was {width}x{height} when it was read: {_CHANGED}")
    return view, pixels


def _load(
    source: InputFile,
    fit: Fit,
    fps: float | None,
    note: Callable[[str], None],
    check: Callable[[], None],
) -> list[LoadedView]:
    if source.kind == "video":
        frames = []

        def of_video(text: str) -> None:
            note(f"{source.path}: {text}")

        for number, pixels in read_frames(source.path, fps=fps, note=of_video):
            check()
            name = f"{source.path.stem}_{number:06d}"
            frames.append(_fitted(name, source.path, number, pixels, None, fit))
        return frames
    picture = read_image(source.path)
    for text in picture.notes:
        note(f"{source.path}: {text}")
    focal = None
    if picture.exif_focal_35mm is not None:
        focal = picture.exif_focal_35mm * max(picture.pixels.shape[:2]) / _FILM_WIDTH
    return [_fitted(source.path.stem, source.path, None, picture.pixels, focal, fit)]


def _fitted(
    name: str, path: Path, frame: int | None, pixels: Pixels, focal: float | None, fit: Fit
) -> LoadedView:
    height, width, _ = pixels.shape
    check_size((height, width))
    fitted = fit_image(pixels, fit_for([(height, width)], fit), portrait=height > width)
    # Cut by bytes, as file systems count; a letter that was cut in two is dropped. What is no
    # UTF-8 becomes a question mark first, which is not safe either.
    whole = _UNSAFE.sub("_", name.encode(errors="replace").decode())
    safe = whole.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return LoadedView(safe, path, frame, (height, width), focal, fitted)


def _with_unique_names(views: Sequence[LoadedView]) -> list[LoadedView]:
    """Views whose names differ even where case does not count; pictures of one name get -2, -3."""
    taken: set[str] = set()
    named = []
    for view in views:
        name, number = view.name, 1
        while name.casefold() in taken:
            number += 1
            name = f"{view.name}-{number}"
        taken.add(name.casefold())
        named.append(replace(view, name=name))
    return named
