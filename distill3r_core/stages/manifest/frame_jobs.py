"""Which frames of a data set are read, and which of these are written."""

from collections.abc import Iterator

from distill3r_core.data.planning import DatasetPlan
from distill3r_core.stages.manifest.frame_processor import (
    LOOKED_AT,
    WRITTEN,
    FrameJob,
    FrameOutcomes,
)

# Why an original image is not named although originals are to be.
_TURNED, _TWICE = "as its file is not upright", "as its scene has the file twice"


def frame_jobs(
    plan: DatasetPlan, outcomes: FrameOutcomes, *, link: bool, look: bool
) -> Iterator[FrameJob]:
    """Frames that are wanted and were not written, and those of damaged scenes, to look at.

    Args:
        link: Name original images, where that can be.
        look: Look at the frames of all scenes.
    """
    damaged = frozenset(outcomes.damaged)
    plans = {scene.scene.scene_id: scene for scene in plan.scenes}
    for scene in plan.listing.scenes:
        planned = plans.get(scene.scene_id)
        wanted = {planned.usable[index] for index in planned.wanted} if planned else set[int]()
        # Why a scene gives no sample is for its frames to say.
        least = LOOKED_AT if look or not wanted or scene.scene_id in damaged else 0
        states = outcomes.states.setdefault(scene.scene_id, bytearray(len(scene.frames)))
        linked = set[str]()  # rows of a scene name different images
        for number, frame in enumerate(scene.frames):
            write, copied = number in wanted, ""
            if link:
                image = str(frame.image)
                copied = _TURNED if frame.turns % 4 else _TWICE if image in linked else ""
                linked.add(image)
            if states[number] < (WRITTEN if write else least):
                key, original = plan.listing.key_of(scene, frame), link and not copied
                yield FrameJob(
                    key, frame, scene.scene_id, number, write, link=original, copied=copied
                )


def expected_jobs(plan: DatasetPlan, *, look: bool) -> int:
    """How many jobs there are at first, when no frame has been looked at."""
    images = {scene.scene.scene_id: scene.images for scene in plan.scenes}
    return sum(
        len(scene.frames) if look else images.get(scene.scene_id) or len(scene.frames)
        for scene in plan.listing.scenes
    )
