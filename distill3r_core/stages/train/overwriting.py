"""What `train --overwrite` is about to delete, and whether that has to be confirmed."""

from dataclasses import dataclass
from pathlib import Path

from distill3r_core.report import duration
from distill3r_core.stages.train.caches import open_caches
from distill3r_core.stages.train.run_folder import check_run, decide_map_size, identity_of, steps_of
from distill3r_core.training import checkpoints, metrics_log
from distill3r_core.training.distributed import World
from distill3r_core.training.settings import TrainSettings

_LONG = 600.0  # seconds of training that are not deleted without asking


@dataclass(frozen=True)
class Deletion:
    """The checkpoints of a run that is going to be replaced."""

    run: Path
    steps: tuple[int, ...]  # of its checkpoints, the newest first
    seconds: float | None  # that were spent on training; None: not known

    @property
    def is_long(self) -> bool:
        """Whether more than ten minutes of work are lost, or may be."""
        return self.seconds is None or self.seconds > _LONG

    def __str__(self) -> str:
        work = "of unknown duration" if self.seconds is None else duration(self.seconds)
        shown = ", ".join(map(str, self.steps[:3])) + (", ..." if len(self.steps) > 3 else "")
        count = f"{len(self.steps)} checkpoint" + ("s" if len(self.steps) > 1 else "")
        return f"the run in {self.run}: {count} (step {shown}), training {work}"


def deletion_of(run: Path) -> Deletion | None:
    """What is lost where a run folder is replaced; None where it has no checkpoint."""
    steps = checkpoints.steps_of(run)
    if not steps:
        return None
    damaged = list[str]()
    rows = list(metrics_log.read_metrics(run / metrics_log.FILE, warn=damaged.append))
    seconds = sum(float(row.get("seconds") or 0) for row in rows)
    return Deletion(run, steps, seconds if rows and not damaged else None)


def planned_deletion(settings: TrainSettings) -> Deletion | None:
    """What `train --overwrite` with these settings is about to delete, if anything.

    Raises:
        InputMissingError: There is no cache.
        ConflictError: Another process is at the run.
    """
    if settings.output is None or deletion_of(settings.output) is None:
        return None
    processes = max(settings.gpus, World.from_environment().size)
    cache = open_caches(settings)
    settings = decide_map_size(settings, cache, processes=processes, resume=False, overwrite=True)
    identity = identity_of(settings, cache, processes=processes)
    steps = steps_of(settings, cache, processes=processes)
    folder = check_run(settings, identity, steps=steps, resume=False, overwrite=True)
    return None if folder.finished else deletion_of(folder.path)
