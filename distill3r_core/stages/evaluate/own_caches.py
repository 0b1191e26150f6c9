"""The caches that a student learned from, and its training frames there."""

from pathlib import Path

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import ConflictError
from distill3r_core.evaluation.baselines.training_frames import TrainingFrames
from distill3r_core.evaluation.predictions import Unpredicted
from distill3r_core.runs.run_record import learned_from, read_record, samples_of
from distill3r_core.runs.student_file import StudentFile, cache_paths


def training_frames_of(student: StudentFile) -> TrainingFrames | Unpredicted:
    """The training frames of a student, or why they cannot be had."""
    paths = cache_paths(student)
    where = ", ".join(map(str, paths)) or "its path is not known"
    frames = TrainingFrames.of_run(paths, size=student.fit.resized)
    if frames is None:
        return Unpredicted(f"the cache of its training frames cannot be read ({where})")
    try:
        check_caches(frames.cache, student)
    except ConflictError:
        return Unpredicted(f"the run learned from other samples than {where} holds")
    return frames


def check_caches(caches: CacheUnion, student: StudentFile) -> None:
    """Refuse caches that are not those that a student learned from, where its run says which.

    Raises:
        ConflictError: One holds other samples.
    """
    run = run_folder(student)
    record = None if run is None else read_record(run)
    if record is None:
        return  # a weight file alone does not say what was in its cache
    learned = list(learned_from(record["identity"]).values())
    for index, member in enumerate(caches.members):
        samples = samples_of(member.cache)["samples"]
        if index >= len(learned) or learned[index]["samples"] != samples:
            raise ConflictError(
                f"{member.cache.path} holds other samples than {run} learned from",
                hint="go to the folder that it was trained in, or score against a data set: "
                "--data ROOT",
            )


def run_folder(student: StudentFile) -> Path | None:
    """The run that weights belong to: `RUN/checkpoints/NAME/model.safetensors`."""
    checkpoints = student.path.parent.parent
    return checkpoints.parent if checkpoints.name == "checkpoints" else None
