"""Scenes out of videos: their frames are written as images once, and are then like any others."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path

from distill3r_core.data.layouts import Frame, Refused, Scene
from distill3r_core.data.layouts.folders import frame_key
from distill3r_core.data.listing import DatasetListing
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file, write_text
from distill3r_core.io.images.blank import blank_color, blank_frames, blank_reason
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.video import expected_frames, read_frames
from distill3r_core.report import Progress, counted
from distill3r_core.stages.manifest.frame_index import stamp_of

FOLDER = "video"  # beside `images/`
_DONE = ".done.json"  # of which video, and how, the images beside it were made
_VERSION = 2  # raised when the same video gives other pixels


@dataclass(frozen=True)
class _Extracted:
    """What was taken out of a video.

    Args:
        frames: Names of the images, in order.
        notes: What was decided in reading it.
        blank: Reason for each frame that was left out as blank, by its number.
    """

    frames: Sequence[str]
    notes: Sequence[str]
    blank: Mapping[str, str]


def with_videos(
    found: DatasetListing, folder: Path, *, fps: float, progress: Progress, dry_run: bool = False
) -> DatasetListing:
    """The data set with the frames of its videos as scenes.

    Args:
        found: A data set.
        folder: The manifest's.
        fps: Frames of each second to take.
        progress: Reports every video.
        dry_run: Write nothing: the frames are those that the time stamps of the videos promise.
    """
    if not found.videos:
        return found
    progress.begin(f"{found.name}: videos", total=len(found.videos), unit="videos")
    scenes, refused, notes = list(found.scenes), list(found.refused), list(found.notes)
    for video in found.videos:
        scene_id, path = video.scene_id, video.path
        place = folder / FOLDER / found.name / scene_id
        try:
            extracted = (_expected if dry_run else _extract)(path, place, fps)
        except ImageError as error:
            refused.append(Refused(path, str(error)))
        else:
            beside, frames = video.beside, list[Frame]()
            for name in sorted(extracted.frames, key=frame_key):
                image = place / f"{name}.png"
                if beside is None:
                    frames.append(Frame(name, image, number=int(name), may_be_blank=True))
                elif (recorded := beside.get(int(name))) is not None:
                    frames.append(replace(recorded, image=image, may_be_blank=True))
            if lost := len(extracted.frames) - len(frames):
                notes.append(f"{path}: nothing is recorded beside {counted(lost, 'frame')}")
            scenes.append(Scene(scene_id, path, tuple(frames), order="number"))
            notes += [f"{path}: {text}" for text in extracted.notes]
            refused += [
                Refused(path.with_name(f"{path.name}, frame {number}"), reason, is_frame=True)
                for number, reason in extracted.blank.items()
            ]
        progress.advance()
    return found.with_scenes(scenes, refused=tuple(refused), notes=tuple(notes), videos=())


def _extract(path: Path, place: Path, fps: float) -> _Extracted:
    """Write the frames of a video as images; again only where the video has changed."""
    made = _made(path, fps)
    if (done := _done(place, made)) is not None:
        return done
    _require_reader()
    numbers: list[int] = []
    notes: list[str] = []
    colors = []
    for number, pixels in read_frames(path, fps=fps, note=notes.append):
        numbers.append(number)
        colors.append(blank_color(pixels))
        write_image(place / f"{number:06d}.png", pixels)
    left_out = {index: color for index in blank_frames(colors) if (color := colors[index])}
    extracted = _Extracted(
        [f"{number:06d}" for index, number in enumerate(numbers) if index not in left_out],
        notes,
        {str(numbers[index]): blank_reason(color) for index, color in left_out.items()},
    )
    write_text(place / _DONE, json.dumps({**made, **vars(extracted)}))
    return extracted


def _expected(path: Path, place: Path, fps: float) -> _Extracted:
    """What would be taken out of a video; nothing is decoded or written."""
    if (done := _done(place, _made(path, fps))) is not None:
        return done
    _require_reader()
    count, numbers = expected_frames(path, fps=fps)
    notes = []
    if len(numbers) < count:
        notes.append(f"{len(numbers)} of {count} frames would be taken, at most {fps:g} a second")
    return _Extracted([f"{number:06d}" for number in numbers], notes, {})


def _made(path: Path, fps: float) -> dict[str, object]:
    """What decides the frames that are taken out of a video."""
    return {"video": stamp_of(path), "fps": fps, "version": _VERSION}


def _require_reader() -> None:
    if util.find_spec("av") is None:
        raise ImageError("a video needs an extra: pip install 'distill3r[video]'")


def _done(place: Path, made: Mapping[str, object]) -> _Extracted | None:
    """What was taken out of the same video before, if all of it is still there."""
    try:
        record = json.loads(read_text_file(place / _DONE))
        extracted = _Extracted(record.pop("frames"), record.pop("notes"), record.pop("blank"))
        names = [name for name in extracted.frames if name.isdecimal()]
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if names != extracted.frames:  # they are numbers, and no paths
        return None
    whole = record == json.loads(json.dumps(made))
    whole = whole and all((place / f"{name}.png").is_file() for name in extracted.frames)
    return extracted if whole else None
