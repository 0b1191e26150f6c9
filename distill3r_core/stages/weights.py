"""Published weights: which there are, where they lie, and getting them by name."""

import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distill3r_core import paths
from distill3r_core.errors import WeightsError
from distill3r_core.files import is_there, read_own, write_text
from distill3r_core.io.download import download, hash_of, through_proxy
from distill3r_core.io.proxies import require_proxies
from distill3r_core.io.published_weights import PublishedWeights
from distill3r_core.report import Progress, Report, Silent, Table
from distill3r_core.runs.known_weights import known_weights
from distill3r_core.system.disk import disk_errors

_HASHES = "hashes.json"  # in DISTILL3R_HOME: a big file is hashed once
_MEGABYTE = 1e6
_SHA256_DIGITS = 64
_HINT = (
    "nothing is downloaded unless asked for: distill3r models download NAME; "
    "where a file is or goes: models path NAME. commercial: what the license allows, as read in "
    "November 2026; licenses in full, hashes and published figures: --json"
)
_LONGEST_LICENSE = 18  # so that the table fits into 80 columns


def list_weights() -> Report:
    """All known weights with size, license and state; files that are here with their hash."""
    known = known_weights()
    models = [_facts(known[name]) for name in known]
    rows = []
    for one in models:
        license = one["license"]
        if len(license) > _LONGEST_LICENSE:
            license = f"{license[: _LONGEST_LICENSE - 1].rstrip(' ,(')}…"
        size = f"{one['megabytes']:.0f} MB"
        rows.append((one["name"], size, one["commercial"], license, one["state"]))
    columns = ("model", "size", "commercial", "license", "state")
    table = Table(title="weights", columns=columns, rows=tuple(rows))
    return Report(settings={}, result={"models": models}, tables=(table,), notes=(_HINT,))


def weights_path(name: str) -> Report:
    """Where the weights of one model are.

    Args:
        name: One of `known_weights`.

    Raises:
        ConfigError: No such model.
        WeightsError: They are not here; says which file goes where.
    """
    entry = known_weights()[name]
    found = entry.find()
    if found is None:
        raise entry.missing()
    return Report(settings={"name": name}, result=_facts(entry), files=(found,))


def download_weights(name: str, *, progress: Progress | None = None) -> Report:
    """Bring the weights of one model here; what is here already is not fetched again.

    Args:
        name: One of `known_weights`.
        progress: Shows the megabytes.

    Raises:
        ConfigError: No such model.
        WeightsError: Offline, cut off, or not the published file.
        DiskFullError: There is no room.
    """
    progress = progress or Silent()
    entry = known_weights()[name]
    if entry.find() is not None:
        notes = ("it was here already",)
    else:
        progress.note(f"{name}: {entry.megabytes:.0f} MB, {entry.license}")
        if entry.repo is None:
            _from_address(entry, progress)
        else:
            _from_hub(entry, entry.repo)
        notes = ()
    found = entry.find()
    assert found is not None, f"{name} was downloaded and is not found"
    facts = _facts(entry)
    state = f"{facts['state']}, SHA-256 {facts['sha256']}"
    return Report(
        settings={"name": name},
        result=facts,
        files=(found,),
        notes=(*notes, state),
        finished_before=bool(notes),
    )


def _from_address(entry: PublishedWeights, progress: Progress) -> None:
    progress.begin(f"download {entry.name}", total=entry.megabytes, unit="MB")
    said = 0

    def on_bytes(done: int, total: int | None) -> None:
        nonlocal said
        megabytes = int(done / _MEGABYTE)
        if megabytes > said:
            progress.advance(megabytes - said)
            said = megabytes

    download(entry.url, entry.place, sha256=entry.sha256, on_bytes=on_bytes)


def _from_hub(entry: PublishedWeights, repo: str) -> None:
    """Into `DISTILL3R_HOME` where it is set, else into the hub's own cache; it resumes."""
    require_proxies()
    from huggingface_hub import constants, hf_hub_download  # not free to import

    local = entry.place if "DISTILL3R_HOME" in os.environ else None
    try:
        with disk_errors(entry.place), _quiet_hub():
            for file in reversed(entry.files):  # the one that makes it complete comes last
                hf_hub_download(repo, file, local_dir=local)
    except (_transport_error(), OSError) as error:
        files = " and ".join(entry.files)
        through = through_proxy(constants.ENDPOINT)
        first: BaseException = error  # the hub's own errors name no cause
        while first.__cause__ is not None:
            first = first.__cause__
        reason = next(iter(str(first).splitlines()), "") or type(first).__name__
        raise WeightsError(
            f"cannot download {repo}{through}: {reason}",
            hint=f"run again to continue, or put {files} from {entry.address} into {entry.place}",
        ) from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Without the hub's log of every attempt: the error that follows says what happened."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _transport_error() -> type[Exception]:
    """What the hub's HTTP library raises; which library that is depends on the hub's version."""
    from huggingface_hub.errors import HfHubHTTPError

    base = HfHubHTTPError.__bases__[0]
    assert issubclass(base, Exception)
    return base


def _facts(entry: PublishedWeights) -> dict[str, Any]:
    """Plain data about one entry."""
    found = entry.find()
    state, digest = "missing", None
    size = round(_MEGABYTE * entry.megabytes)  # about
    if found is not None:
        file = (entry.tensor_file(found) if found.is_dir() else None) or found
        size = file.stat().st_size
        digest, published = _known_hash(file), _published_hash(entry, file)
        state = "unverified" if published is None else "verified"
        if published is not None and published != digest:
            state = "not the published file"
    return {
        "name": entry.name,
        "megabytes": entry.megabytes,
        "bytes": size,
        "parameters": entry.parameters,
        "license": entry.license,
        "commercial": entry.commercial,
        "figure": None if entry.figure is None else dataclasses.asdict(entry.figure),
        "state": state,
        "sha256": digest,
        "path": None if found is None else str(found),
        "place": str(entry.place),
        "address": entry.address,
    }


def _published_hash(entry: PublishedWeights, file: Path) -> str | None:
    """What the publisher says; the hub's cache names its large files by their SHA-256."""
    if entry.sha256 is not None or entry.repo is None:
        return entry.sha256
    name = file.resolve().name
    return name if file.is_symlink() and len(name) == _SHA256_DIGITS else None


def _known_hash(file: Path) -> str:
    """SHA-256 of a file, remembered while its size and time stay."""
    store = paths.weights_home() / _HASHES
    known: Any = {}
    if is_there(store):
        with suppress(ValueError, RecursionError):
            known = json.loads(read_own(store))
    if not isinstance(known, dict):  # a damaged store is begun anew
        known = {}
    status = file.stat()
    stamp = [status.st_size, status.st_mtime_ns]
    entry = known.get(str(file.resolve()))
    if isinstance(entry, dict) and entry.get("stamp") == stamp:
        found = entry.get("sha256")
        if isinstance(found, str) and len(found) == _SHA256_DIGITS:
            return found
    digest = hash_of(file)
    new = {**known, str(file.resolve()): {"stamp": stamp, "sha256": digest}}
    write_text(store, json.dumps(new, indent=2) + "\n")
    return digest
