"""Scenes out of videos: their frames are written as images once, and are then like any others."""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path

from distill3r_core.data.layouts import Frame, Refused, Scene
from distill3r_core.data.layouts.folders import frame_key
from distill3r_core.data.listing import DatasetListing
from distill3r_core.errors import ImageError
from distill3r_core.files import write_text
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.video import read_frames
from distill3r_core.report import Progress
from distill3r_core.stages.manifest.frame_index import stamp_of

FOLDER = "video"  # beside `images/`
_DONE = ".done.json"  # of which video, and how, the images beside it were made


def with_videos(
    found: DatasetListing, folder: Path, *, fps: float, progress: Progress
) -> DatasetListing:
    """The data set with the frames of its videos as scenes.

    Args:
        found: A data set.
        folder: The manifest's.
        fps: Frames of each second to take.
        progress: Reports every video.
    """
    if not found.videos:
        return found
    progress.begin(f"{found.name}: videos", total=len(found.videos), unit="videos")
    scenes, refused = list(found.scenes), list(found.refused)
    for video in found.videos:
        scene_id, path = video.scene_id, video.path
        place = folder / FOLDER / found.name / scene_id
        try:
            frames = _frames(path, place, fps)
        except ImageError as error:
            refused.append(Refused(path, str(error)))
        else:
            scenes.append(Scene(scene_id, path, frames, order="number"))
        progress.advance()
    return replace(found, scenes=tuple(scenes), refused=tuple(refused), videos=())


def _frames(path: Path, place: Path, fps: float) -> tuple[Frame, ...]:
    """Frames of a video as images in a folder; taken out again only where the video changed."""
    made = {"video": stamp_of(path), "fps": fps}
    names = _done(place, made)
    if names is None:
        if util.find_spec("av") is None:
            raise ImageError("a video needs an extra: pip install 'distill3r[video]'")
        names = []
        for number, pixels in read_frames(path, fps=fps):
            names.append(f"{number:06d}")
            write_image(place / f"{names[-1]}.png", pixels)
        write_text(place / _DONE, json.dumps({**made, "frames": names}))
    ordered = sorted(names, key=frame_key)
    return tuple(
        Frame(name=name, image=place / f"{name}.png", number=int(name)) for name in ordered
    )


def _done(place: Path, made: dict[str, object]) -> Sequence[str] | None:
    """Names of the frames that lie there whole, or None."""
    try:
        record = json.loads((place / _DONE).read_text(encoding="utf-8"))
        names = record.pop("frames")
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    whole = record == json.loads(json.dumps(made))
    return names if whole and all((place / f"{name}.png").is_file() for name in names) else None
