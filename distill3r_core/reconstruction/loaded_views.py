"""Images and video frames as a model sees them, with the way back to the full-size ones."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from distill3r_core.errors import ImageError
from distill3r_core.io.images.blank import (
    blank_color,
    blank_frames,
    blank_reason,
    check_not_blank,
)
from distill3r_core.io.images.decode import DecodedImage, check_size, decode_opened, read_image
from distill3r_core.io.images.fit import FittedImage, ImageFit, fit_for, fit_image
from distill3r_core.io.images.inputs import InputFile, evenly
from distill3r_core.io.images.masks import MaskSource, mask_of
from distill3r_core.io.images.placed_masks import placed_mask
from distill3r_core.io.images.video import read_frames
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.system.threads import Pool, ahead, result_of
from distill3r_core.types import PreparedView, View

_DECODERS = 4  # threads; Pillow decodes outside the interpreter's lock
_FILM_WIDTH = 36.0  # millimeters, to which EXIF's equivalent focal length refers
# In a file's name, and white space too: COLMAP's text format ends a name at it.
_UNSAFE = re.compile(r'[\\/:*?"<>|\s\x00-\x1f]')
_CHANGED = "it has changed in the meantime"
_LONGEST_NAME = 160  # bytes: files get a suffix, and more while they are written

Pixels = UInt8[np.ndarray, "_ _ 3"]
ImageSource = str | Path | Image.Image | Pixels
# How images become a model's input: a student's settings, or `Predictor.prepare`.
Fitting = ImageFit | Callable[[View], PreparedView]


@dataclass(frozen=True)
class LoadedView:
    """One image, fitted to a model's input.

    Args:
        name: Unique among the views, fit for a file's name.
        path: Path of the image or video; None where the caller gave pixels.
        frame: Number within the video, from 0.
        size: Rows and columns of the upright full-size image.
        exif_focal: Focal length in its pixels, where the camera wrote one.
        fitted: The pixels that the model sees.
        pixels: The full-size image, where the caller gave it.
        prepared: What `Predictor.prepare` returned; None where `fitted` says it all.
        mask: Pixels of the fitted image that count; None: all of them.
    """

    name: str
    path: Path | None
    frame: int | None
    size: tuple[int, int]
    exif_focal: float | None
    fitted: FittedImage
    pixels: Pixels | None = None
    prepared: PreparedView | None = None
    mask: Bool[np.ndarray, "H W"] | None = None


@dataclass(frozen=True)
class LoadedViews:
    """Views that could be read, and failures of the others."""

    views: tuple[LoadedView, ...]
    failed: tuple[Failure, ...]


def load_views(
    sources: Sequence[InputFile],
    fit: Fitting,
    *,
    fps: float | None = None,
    ignore_masks: bool = False,
    max_views: int | None = None,
    progress: Progress | None = None,
) -> LoadedViews:
    """Read and fit images and videos; what cannot be read is named and left out.

    Args:
        sources: In the order of the views.
        fit: How images become the model's input; each keeps its own orientation.
        fps: Frames taken of each second of a video; None: all.
        ignore_masks: Use all pixels, whatever masks and alpha channels say.
        max_views: Largest number of views, evenly spread over all images and frames.
        progress: Reports every source, and the decisions taken in reading it.
    """
    progress = progress or Silent()
    if max_views is not None and all(source.kind == "image" for source in sources):
        sources = [sources[index] for index in evenly(len(sources), max_views)]
    views: list[LoadedView] = []
    failed: list[Failure] = []
    notes: list[str] = []
    progress.begin("load", total=len(sources), unit="files")

    def load(source: InputFile) -> list[LoadedView | Failure]:
        try:
            if source.kind == "video":
                return _video_views(source.path, fit, fps, notes.append, pool.check)
            return [_image_view(source, fit, ignore_masks, notes.append)]
        except ImageError as error:
            return [Failure(str(source.path), error.message)]

    with Pool(_DECODERS) as pool:
        # never more than a few images in flight
        begun = ahead(lambda source: pool.submit(load, source), sources, 2 * _DECODERS)
        for outcome in map(result_of, begun):
            failed += [one for one in outcome if isinstance(one, Failure)]
            views += [one for one in outcome if isinstance(one, LoadedView)]
            progress.advance(views=str(len(views)))
    for note in sorted(notes):  # the threads that took them finish in any order
        progress.note(note)
    kept = [views[index] for index in evenly(len(views), max_views)]
    return LoadedViews(tuple(_with_unique_names(kept)), tuple(failed))


def views_of_images(
    images: Sequence[ImageSource], masks: Sequence[MaskSource | None], fit: Fitting
) -> list[LoadedView]:
    """Views of images that a caller has at hand; pixels are called `view_000` and so on.

    Args:
        images: Paths, Pillow images, or upright RGB pixels.
        masks: The mask of each image, beside its alpha channel.

    Raises:
        ImageError: An image is too small for a patch, blank, or it or its mask cannot be used.
    """
    views = []
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        path = Path(image) if isinstance(image, str | Path) else None
        name = f"view_{number:03d}" if path is None else path.stem
        try:
            if isinstance(image, Image.Image):
                decoded = decode_opened(image)
            elif isinstance(image, np.ndarray):
                decoded = DecodedImage(image, None)
            else:
                decoded = read_image(Path(image))
            check_not_blank(decoded.pixels)
            view = _named_view(name, path, None, decoded.pixels, _exif_focal(decoded), fit)
            view = _with_mask(view, mask_of(decoded, mask))
        except ImageError as error:
            raise ImageError(f"{path or name}: {error.message}") from error
        views.append(replace(view, pixels=decoded.pixels) if path is None else view)
    return _with_unique_names(views)


def full_size_images(views: Sequence[LoadedView]) -> Iterator[tuple[LoadedView, Pixels]]:
    """The upright full-size images of views, read again; a video is decoded once.

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


def _image_view(
    source: InputFile, fit: Fitting, ignore_masks: bool, note: Callable[[str], None]
) -> LoadedView:
    image = read_image(source.path)
    check_not_blank(image.pixels)
    mask = None if ignore_masks else mask_of(image, source.mask)
    for text in image.notes:
        note(f"{source.path}: {text}")
    focal = _exif_focal(image)
    view = _named_view(source.path.stem, source.path, None, image.pixels, focal, fit)
    return _with_mask(view, mask)


def _exif_focal(image: DecodedImage) -> float | None:
    if image.exif_focal_35mm is None:
        return None
    return image.exif_focal_35mm * max(image.pixels.shape[:2]) / _FILM_WIDTH


def _with_mask(view: LoadedView, mask: Bool[np.ndarray, "H W"] | None) -> LoadedView:
    """The view with a mask of its full-size image."""
    if mask is None:
        return view
    placed = placed_mask(mask, view.fitted.placement).numpy()
    if not placed.any():
        raise ImageError("its mask leaves no pixel of the image as the model sees it")
    return replace(view, mask=placed)


def _video_views(
    path: Path,
    fit: Fitting,
    fps: float | None,
    note: Callable[[str], None],
    check: Callable[[], None],
) -> list[LoadedView | Failure]:
    """The frames of a video; a blank one is a failure of its own."""

    def of_video(text: str) -> None:
        note(f"{path}: {text}")

    views: list[LoadedView | Failure] = []
    colors = []
    for number, pixels in read_frames(path, fps=fps, note=of_video):
        check()
        colors.append(blank_color(pixels))
        views.append(_named_view(f"{path.stem}_{number:06d}", path, number, pixels, None, fit))
    for index in blank_frames(colors):
        view, color = views[index], colors[index]
        assert isinstance(view, LoadedView) and color is not None, "only blank frames are named"
        views[index] = Failure(f"{path}, frame {view.frame}", blank_reason(color))
    return views


def _named_view(
    name: str,
    path: Path | None,
    frame: int | None,
    pixels: Pixels,
    focal: float | None,
    fit: Fitting,
) -> LoadedView:
    height, width, _ = pixels.shape
    fitted, prepared = _fit(pixels, fit)
    name = _safe_name(name)
    return LoadedView(name, path, frame, (height, width), focal, fitted, prepared=prepared)


def _safe_name(name: str) -> str:
    """The name, fit for that of a file."""
    # Cut by bytes, as file systems count; a letter that was cut in two is dropped. What is no
    # UTF-8 becomes a question mark first, which is not safe either.
    whole = _UNSAFE.sub("_", name.encode(errors="replace").decode())
    return whole.encode()[:_LONGEST_NAME].decode(errors="ignore")


def _fit(pixels: Pixels, fit: Fitting) -> tuple[FittedImage, PreparedView | None]:
    height, width, _ = pixels.shape
    check_size((height, width))
    if isinstance(fit, ImageFit):
        portrait = height > width
        return fit_image(pixels, fit_for([(height, width)], fit), portrait=portrait), None
    prepared = fit(View(image=pixels))
    image = (255 * prepared.image.movedim(0, -1)).round().byte().numpy()
    return FittedImage(image, prepared.placement), prepared


def _with_unique_names(views: Sequence[LoadedView]) -> list[LoadedView]:
    """Views whose names differ even where case does not count; images of one name get -2, -3."""
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
