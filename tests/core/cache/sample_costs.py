"""What a cache of many tiny samples costs to open and to merge.

A program of its own: the checks of types that tests run under would cost many times what they
watch here.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cache_material import a_header, pictures, smooth_targets

from distill3r_core.benchmarks.cache.loader_memory import tree_memory
from distill3r_core.cache.header import HEADER, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.stages.cache.merge import merge_caches

SIZE = (14, 14)


def measure(folder: Path, count: int) -> dict[str, float]:
    """CPU-seconds to open and to merge, memory and header in bytes."""
    plan = tuple(
        PlannedSample(f"data/scene{i // 5:06d}/{i % 5:03d}", f"{i:032x}", "train")
        for i in range(count)
    )
    header = replace(a_header(1), plan=plan, size=SIZE)
    with CacheWriter(folder / "cache", header) as writer:
        targets, images = smooth_targets(size=SIZE, depth=True), pictures(size=SIZE)
        sample = writer.encoder().encode("", "", images, targets, {"pictures": ["a", "b"]})
        for planned in plan:
            writer.put(replace(sample, name=planned.name, content=planned.content))
    before, start = tree_memory(), time.process_time()
    cache = TeacherCache(folder / "cache")
    assert len(cache.names()) == count
    opened = time.process_time() - start
    memory = tree_memory() - before
    start = time.process_time()
    merge_caches([folder / "cache"], folder / "merged")
    merged = time.process_time() - start
    header_bytes = (folder / "cache" / HEADER).stat().st_size
    return {"opened": opened, "memory": memory, "header": header_bytes, "merged": merged}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
