"""Scenes out of archives: their files are written once, and are then like any others."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from distill3r_core.data.conventions.readings import Conventions, with_conventions
from distill3r_core.data.layouts import Note, PackedScene, Refused, Scene
from distill3r_core.data.listing import DatasetListing
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file, remove_own, write_text
from distill3r_core.report import Progress
from distill3r_core.stages.manifest.frame_index import stamp_of

FOLDER = "recordings"  # beside `images/`
_DONE = ".done.json"  # of which archive the files beside it are, and which they are


def with_unpacked(
    found: DatasetListing, folder: Path, conventions: Conventions, *, progress: Progress
) -> DatasetListing:
    """The data set with the recordings of its archives as scenes.

    Args:
        found: A data set.
        folder: The manifest's; archives are unpacked there, again only where one has changed.
        conventions: How the frames are to be read.
        progress: Reports every archive.

    Raises:
        DiskFullError: There is no room for the files.
    """
    if not found.packed:
        return found
    progress.begin(f"{found.name}: archives", total=len(found.packed), unit="archives")
    scenes, refused, notes = list(found.scenes), list(found.refused), list(found.notes)
    for packed in found.packed:
        place = folder / FOLDER / found.name / packed.scene_id
        try:
            _unpack(packed, place)
        except ImageError as error:
            refused.append(Refused(packed.path, str(error)))
        else:
            for listed in packed.list_unpacked(place, packed.scene_id):
                match listed:
                    case Scene():
                        frames = with_conventions(listed.frames, conventions)
                        scenes.append(replace(listed, frames=frames))
                    case Refused():
                        refused.append(listed)
                    case Note():
                        notes.append(listed.text)
        progress.advance()
    return found.with_scenes(scenes, refused=tuple(refused), notes=tuple(notes), packed=())


def _unpack(packed: PackedScene, place: Path) -> None:
    """Raises: ImageError: The archive cannot be unpacked."""
    made = {"archive": stamp_of(packed.path)}
    if _is_done(place, made):
        return
    remove_own(place)  # frames that another archive of this name had
    packed.unpack(place)
    write_text(place / _DONE, json.dumps({**made, "files": sorted(_files_in(place))}))


def _is_done(place: Path, made: Mapping[str, object]) -> bool:
    """Whether the same archive was unpacked before, and all of its files are still there."""
    try:
        record = json.loads(read_text_file(place / _DONE))
        files = set(record.pop("files"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return record == json.loads(json.dumps(made)) and files <= _files_in(place)


def _files_in(place: Path) -> set[str]:
    """Files below a folder, by their paths from there."""
    found = (path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(place).as_posix() for path in found}
