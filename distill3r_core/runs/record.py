"""What the folder of a run says about itself: its settings, its samples, whether it is finished."""

import hashlib
import json
from pathlib import Path
from typing import Any

from distill3r_core.cache.store import TeacherCache

RECORD = "run.json"  # identity, whether it is finished, figures
PICTURES = "pictures.txt"  # hashes of the training frames


def read_record(run: Path) -> dict[str, Any] | None:
    """What a run folder says about itself; None where it is not one."""
    try:
        found = json.loads((run / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return found if isinstance(found, dict) and {"identity", "finished"} <= found.keys() else None


def samples_of(cache: TeacherCache) -> dict[str, Any]:
    """Which samples a cache has: a digest of their names, contents and splits, and the count."""
    there = set(cache.names())
    samples = [[s.name, s.content, s.split] for s in cache.header.plan if s.name in there]
    digest = hashlib.blake2b(json.dumps(samples).encode(), digest_size=16).hexdigest()
    return {"samples": digest, "count": len(samples)}
