"""`manifest --poses FILE`: poses of a file for the frames of all data sets, and how many fit."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from distill3r_core.data.known_poses import KnownPoses, best_matches, with_known_poses
from distill3r_core.data.listing import DatasetListing
from distill3r_core.errors import RequestError
from distill3r_core.report import counted

_COUNTED = "frames of a video are counted from 0"


def with_file_poses(
    known: KnownPoses,
    scans: Sequence[tuple[str, DatasetListing]],
    *,
    may_be_none: bool = False,
    filmed: Collection[str] = (),
) -> list[tuple[str, DatasetListing]]:
    """The data sets with the poses of a file, and a note that says how many frames have one.

    Args:
        may_be_none: There are more frames than those that are listed.
        filmed: Data sets with frames of videos, whose numbers are nowhere to be seen.

    Raises:
        RequestError: The file knows none of the frames, or does not tell scenes apart.
    """
    scenes = (
        (f"{listing.name}/{scene.scene_id}", scene.frames)
        for _, listing in scans
        for scene in listing.scenes
    )
    best = best_matches(scenes, known)
    posed, total = [], 0
    for root, listing in scans:
        listing, (found, frames) = with_known_poses(listing, known, best)
        if frames:  # else they are still in archives and videos
            posed_frames = counted(found, "frame", "have", of=frames)
            note = f"{listing.name}: {posed_frames} a pose in {known.path}"
            if listing.name in filmed and found < frames:
                note += f" ({_COUNTED})"
            listing = replace(listing, notes=(*listing.notes, note))
        posed.append((root, listing))
        total += found
    if not total and not may_be_none:
        raise RequestError(
            f"{known.path} has a pose of none of the frames",
            hint="names of images, or time stamps in them, must be those of the file"
            + (f"; {_COUNTED}" if filmed else ""),
        )
    return posed
