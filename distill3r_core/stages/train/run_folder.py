"""The folder of a run: whose it is, whether it is finished, and who may write to it."""

import contextlib
import errno
import fcntl
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distill3r_core import config, paths, plugins
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import ConflictError, Distill3rError
from distill3r_core.files import open_own, remove_own
from distill3r_core.io.checksums import OWNER, bytes_hash, write_sealed
from distill3r_core.runs.run_record import (
    IMAGE_HASHES,
    RECORD,
    learned_from,
    read_record,
    samples_of,
)
from distill3r_core.stages.train.caches import learns_meters, learns_size_apart
from distill3r_core.stages.train.resolve import (
    LENGTHS,
    complete_model,
    leaves_map_size_open,
    with_map_size,
)
from distill3r_core.training import checkpoints, faults, metrics_log, tensorboard
from distill3r_core.training.distributed import World
from distill3r_core.training.scene_labels import samples_of_scenes
from distill3r_core.training.schedule import Extension, run_length
from distill3r_core.training.settings import FREE_TO_CHANGE, TrainSettings

CONFIG = "config.yaml"
LOG = "log.txt"
LOSS_CHART = "loss.png"
PREDICTIONS = "predictions.png"
_LOCK = ".lock"
_CACHES = ("cache", "cache_weights")  # settings that say where samples are
_OURS = (
    RECORD, CONFIG, LOG, LOSS_CHART, PREDICTIONS, IMAGE_HASHES,
    metrics_log.FILE, checkpoints.FOLDER, faults.FOLDER, tensorboard.FOLDER,
)  # fmt: skip


def resume_command(run: Path) -> str:
    """The command that resumes a run, whatever options it was started with."""
    name = shlex.quote(str(run))
    return f"distill3r train --resume -o {name} --config {shlex.quote(str(run / CONFIG))}"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; from `open_run` it is held by this process until it ends."""

    path: Path
    identity: Mapping[str, Any]
    finished: bool
    steps: int  # length of the run
    extensions: tuple[Extension, ...] = ()  # what was added to its first length, in order
    launch: str | None = None  # what the launcher calls the job that is at it

    @property
    def owner(self) -> str:
        """Digest of the identity without its length, which an extension changes."""
        return owner_of(self.identity)

    @property
    def origin(self) -> dict[str, Any]:
        """All from which a lost record is made again, as plain data."""
        return {
            "identity": self.identity,
            "steps": self.steps,
            "extensions": [asdict(extension) for extension in self.extensions],
        }

    def record(self, *, finished: bool, **figures: Any) -> None:
        """Write whose folder this is, and what came out."""
        plain = {
            "finished": finished,
            "launch": self.launch,
            OWNER: self.owner,
            **self.origin,
            **figures,
        }
        write_sealed(self.path / RECORD, plain)


def owner_of(identity: Mapping[str, Any]) -> str:
    """What checkpoints of a run carry, however long the run becomes."""
    return bytes_hash(json.dumps(_without_length(identity), sort_keys=True).encode())


def identity_of(settings: TrainSettings, cache: CacheUnion, *, processes: int) -> dict[str, Any]:
    """All that changes the result of a run, as plain data.

    Args:
        cache: What it learns from: the samples count, not where they lie. Several caches stand by
            their labels, and in their order.
    """
    effective = settings.data.batch * settings.data.accumulation * processes
    plain = config.as_plain(settings)
    # What the caches decide is decided here.
    taught = learns_size_apart(settings, cache)
    plain |= {"model": complete_model(with_map_size(settings, taught=taught)).model}
    kept = {key: plain[key] for key in plain if key not in (*FREE_TO_CHANGE, *_CACHES)}
    for part, name, given in (  # runs of earlier versions have none of these
        (kept["model"], "map_size", kept["model"].get("map_size") != "free"),
        (kept, "scene", bool(settings.scene)),
        (kept, "init_images", settings.init_images is not None),
        (kept["validation"], "best", settings.validation.best is not None),
        (kept["data"], "span", settings.data.span is not None),
        *((kept["data"], name, settings.data.nearby) for name in ("turn", "shift")),
    ):
        if not given:
            part.pop(name, None)
    del kept["schedule"]["extend"]  # what extensions did is recorded with them
    del kept["loss"]["metric"]
    if learns_meters(settings, cache):  # runs of versions that knew no other were relative
        kept["loss"]["metric"] = True
    # More processes with smaller batches make the same steps.
    kept["data"] = {
        key: value
        for key, value in kept["data"].items()
        if key not in ("batch", "accumulation", "workers", "hold")
    } | {"samples_of_a_step": effective}
    learned = {
        member.label: {**member.cache.header.settings, **samples_of(member.cache)}
        | ({} if member.weight is None else {"weight": member.weight})
        for member in cache.members
    }
    if not cache.several:
        (learned,) = learned.values()
    return {**kept, "cache": learned, "plugins": plugins.hashes()}


def decide_map_size(
    settings: TrainSettings, cache: CacheUnion, *, processes: int, resume: bool, overwrite: bool
) -> TrainSettings:
    """The settings with `model.map_size` decided, where they leave it open.

    A run that is there and stays decides, so that one of an earlier version goes on as it began; a
    new one predicts the size if it learns meters.

    Args:
        overwrite: A run that is not finished is replaced, where it is not resumed.
    """
    if not leaves_map_size_open(settings):
        return settings
    usual = with_map_size(settings, taught=learns_size_apart(settings, cache))
    for decided in (usual, with_map_size(settings, taught=False)):
        identity = identity_of(decided, cache, processes=processes)
        path = settings.output
        if path is None and resume:
            path = _newest_open(identity, steps_of(settings, cache, processes=processes))
        found = None if path is None else read_record(path)
        if found is None or owner_of(found["identity"]) != owner_of(identity):
            continue
        if resume or found["finished"] or not overwrite:
            return decided
    return usual


def steps_of(settings: TrainSettings, cache: CacheUnion, *, processes: int) -> int:
    """Length of the run that the settings ask for, in optimizer steps."""
    batch = settings.data.batch * settings.data.accumulation * processes
    samples = len(samples_learned(settings, cache))
    return run_length(settings, samples=samples, effective_batch=batch)


def samples_learned(settings: TrainSettings, cache: CacheUnion) -> list[str]:
    """Training samples of a run: all of its caches, or those of the scenes that it learns."""
    names = cache.names("train")
    if not settings.scene:
        return names
    chosen = samples_of_scenes(cache, settings.scene).values()
    used = {name for samples in chosen for name in samples}
    return [name for name in names if name in used]


@contextmanager
def open_run(
    settings: TrainSettings,
    identity: Mapping[str, Any],
    *,
    steps: int,
    resume: bool,
    overwrite: bool,
    launch: str | None,
) -> Iterator[RunFolder]:
    """The folder of a run, made, locked and ready to be written to; or one that is finished.

    Where the run fails before its first step is done, a folder that was made for it goes again.

    Args:
        steps: Length of the run that is asked for.
        overwrite: Replace another run.
        launch: What the launcher calls the job that is at it.

    Raises:
        ConflictError: The folder holds another run, an unfinished one without `resume`, other
            files, or a run that another process is at.
    """
    found = check_run(settings, identity, steps=steps, resume=resume, overwrite=overwrite)
    folder, path = replace(found, launch=launch), found.path
    if folder.finished:
        yield folder
        return
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if overwrite and not resume:
            _clear(path)
        if (path / checkpoints.FOLDER).is_symlink():  # old checkpoints are removed in it
            raise ConflictError(
                f"{path / checkpoints.FOLDER} is a link",
                hint="link the folder of the run instead; --overwrite removes the link alone",
            )
        if not (path / RECORD).exists() or resume:
            folder.record(finished=False)
        checkpoints.remove_leftovers(path)
        try:
            yield folder
        except Distill3rError:
            if made and not _has_worth(path):
                _clear(path)
                (path / _LOCK).unlink()
                with contextlib.suppress(OSError):  # somebody has put something there meanwhile
                    path.rmdir()
            raise


def check_run(
    settings: TrainSettings,
    identity: Mapping[str, Any],
    *,
    steps: int,
    resume: bool,
    overwrite: bool,
) -> RunFolder:
    """Where a run goes, and whether it is finished; changes nothing.

    A run is extended with `resume` where the length alone differs and is larger.

    Raises:
        ConflictError: As `open_run`.
    """
    path = settings.output
    if path is None:
        path = _newest_open(identity, steps) if resume else None
        path = path or paths.next_numbered(paths.RUNS, settings.preset)
    new = RunFolder(path, identity, finished=False, steps=steps)
    found = read_record(path)
    if found is None:
        if not overwrite:
            _refuse_other_files(path, resume=resume)
        return new
    if not overwrite and owner_of(found["identity"]) == owner_of(identity):
        checkpoints.refuse_foreign(path, owner_of(identity))
    extensions = tuple(Extension(**kept) for kept in found.get("extensions", ()))
    if resume and _is_extended(found, identity, steps):
        with _locked(path):
            added = Extension(found["steps"], steps, settings.schedule.extend)
            return replace(new, extensions=(*extensions, added))
    lines = _differences(found["identity"], identity)
    if lines and (resume or not overwrite):
        extend = ", extend it with --resume" if _is_extended(found, identity, steps) else ""
        raise ConflictError(
            f"{path} holds another run:\n" + "\n".join(f"  {line}" for line in lines),
            hint=f"choose another folder with -o{extend}, replace it with --overwrite, or start "
            f"a new run from its weights with --from {path}",
        )
    if found["finished"] and not lines:
        return replace(new, finished=True, extensions=extensions)
    if not resume and not overwrite:
        raise ConflictError(
            f"{path} holds this run, unfinished",
            hint=f"resume with `distill3r train --resume -o {path}`, or --overwrite it",
        )
    with _locked(path):  # who is at it is known before long work
        return replace(new, extensions=() if lines else extensions)


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Lines about values that differ; one alone for another list of caches."""
    found, wanted = _with_map_size(found, wanted), _with_map_size(wanted, found)
    before, after = learned_from(found), learned_from(wanted)
    if list(before) == list(after):
        return config.differences(found, wanted)
    others = [{key: one[key] for key in one if key != "cache"} for one in (found, wanted)]
    return [f"cache: {_listed(before)} → {_listed(after)}", *config.differences(*others)]


def _with_map_size(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """An identity with the size that it leaves out, where the other one names its own."""
    if "map_size" not in other["model"]:
        return one
    return {**one, "model": {"map_size": "free", **one["model"]}}


def _listed(caches: Mapping[str, Mapping[str, Any]]) -> str:
    """Caches of a run in a few words: `kitchen (depth, 12 samples), attic (vggt, 3 samples)`."""
    return ", ".join(
        f"{label or 'one'} ({one['teacher']}, {one['count']} samples)"
        for label, one in caches.items()
    )


def _refuse_other_files(path: Path, *, resume: bool) -> None:
    """Refuse a folder whose record cannot be read, unless nothing in it was trained.

    Raises:
        ConflictError: It holds something else, or checkpoints that are all damaged.
    """
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set[str]()
    if checkpoints.FOLDER in names and RECORD in names:
        raise ConflictError(
            f"{path} holds a run whose {RECORD} and checkpoints are damaged",
            hint="copy the run again, choose another folder with -o, or delete it: --overwrite",
        )
    if (names and not resume) or names - {*_OURS, _LOCK}:
        raise ConflictError(
            f"{path} holds other files", hint="choose another folder with -o, or --overwrite"
        )


def is_ours(settings: TrainSettings, world: World) -> bool:
    """Whether the launcher has started this process anew, after the run had begun."""
    if world.restarts == 0:
        return False
    path = settings.output or _newest_open({}, steps=0)
    found = None if path is None else read_record(path)
    return found is not None and found.get("launch") == world.launch


def _is_extended(found: Mapping[str, Any], identity: Mapping[str, Any], steps: int) -> bool:
    """Whether a run of `steps` is the recorded one made longer."""
    before = found.get("steps")
    same = _without_length(found["identity"]) == _without_length(identity)
    return before is not None and steps > before and same


def _without_length(identity: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in identity.items() if key not in LENGTHS}
    schedule = kept.get("schedule", {})
    kept["schedule"] = {k: v for k, v in schedule.items() if k not in ("steps", "epochs")}
    return kept


def _newest_open(identity: Mapping[str, Any], steps: int) -> Path | None:
    """The newest unfinished run; else the newest, if it is the one that is wanted or extended."""
    runs = [record.parent for record in paths.RUNS.glob(f"*/{RECORD}")]
    runs.sort(key=_changed, reverse=True)
    for run in runs:
        found = read_record(run)
        if found is not None and not found["finished"]:
            return run
    found = read_record(runs[0]) if runs else None
    if found is None:
        return None
    wanted = found["identity"] == identity or _is_extended(found, identity, steps)
    return runs[0] if wanted else None


def _changed(run: Path) -> int:
    saved = run / checkpoints.FOLDER
    return (saved if saved.is_dir() else run / RECORD).stat().st_mtime_ns


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # A record lock: it dies with the process, and the loader's workers do not inherit it.
    with os.fdopen(open_own(path / _LOCK), "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            raise ConflictError(
                f"another process is at the run in {path}",
                hint="wait for it, or choose another folder with -o",
            ) from error
        yield


def _has_worth(path: Path) -> bool:
    """Whether a run has left anything to resume or to inspect."""
    kept = any((path / name).exists() for name in (checkpoints.FOLDER, faults.FOLDER))
    return kept or any(metrics_log.read_metrics(path / metrics_log.FILE))


def _clear(path: Path) -> None:
    for name in _OURS:
        remove_own(path / name)
