"""What the folder of a run says about itself: its settings, its samples, whether it is finished."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distill3r_core.cache.store import TeacherCache
from distill3r_core.errors import DamageError
from distill3r_core.io.checksums import ORIGIN, RUN_RECORD, read_sealed, read_state

RECORD = RUN_RECORD
IMAGE_HASHES = "pictures.txt"  # hashes of the training frames


def read_record(
    run: Path, *, warn: Callable[[str], None] = lambda _: None
) -> dict[str, Any] | None:
    """What a run folder says about itself; None where it is not one.

    Where `run.json` is damaged or gone, the newest sound checkpoint says whose run it is. Whether
    the run is finished is then not known: `train --resume` finds out, and writes the file again.

    Args:
        warn: Called with a message if the record comes from a checkpoint.
    """
    try:
        found = read_sealed(run / RECORD, required=False)  # earlier versions wrote no checksum
        if _is_record(found) and isinstance(found.get("finished"), bool):
            return found
        reason = f"{run / RECORD} is damaged: it lacks the identity of the run"
    except NotADirectoryError:
        return None
    except FileNotFoundError:
        reason = f"{run / RECORD} is missing"
    except DamageError as error:
        reason = error.message
    origin = _origin_in_checkpoints(run)
    if origin is None:
        return None
    warn(f"warning: {reason}; it is made again from the checkpoints")
    return {**origin, "finished": False, "launch": None}


def _origin_in_checkpoints(run: Path) -> dict[str, Any] | None:
    """What the record is made of, in the newest sound checkpoint; None where there is none."""
    for folder in sorted(run.glob("checkpoints/step-*"), reverse=True):
        try:
            found = read_state(folder).get(ORIGIN)
        except DamageError:
            continue
        if isinstance(found, dict) and _is_record(found):
            return found
    return None


def _is_record(found: dict[str, Any]) -> bool:
    """Whether it says whose run it is, and of what length."""
    extensions = found.get("extensions", [])
    return (
        isinstance(found.get("identity"), dict)
        and type(found.get("steps")) in (int, type(None))
        and isinstance(extensions, list)
        and all(isinstance(one, dict) for one in extensions)
    )


def samples_of(cache: TeacherCache) -> dict[str, Any]:
    """Which samples a cache has: a digest of their names, contents and splits, and the count."""
    there = set(cache.names())
    samples = [[s.name, s.content, s.split] for s in cache.header.plan if s.name in there]
    digest = hashlib.blake2b(json.dumps(samples).encode(), digest_size=16).hexdigest()
    return {"samples": digest, "count": len(samples)}


def learned_from(identity: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a run's identity says about each cache that it learned from, by label.

    The label of a cache alone is "". Identities of other folders have none.
    """
    learned = identity.get("cache", {})
    if isinstance(learned.get("samples"), str):
        return {"": learned}
    return dict(learned)
