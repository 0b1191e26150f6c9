"""Ten thousand tiny samples, from which a million is extrapolated."""

import gc
import time
from dataclasses import replace

from cache_material import a_header, pictures, smooth_targets

from distill3r_core.benchmarks.cache.loader_memory import tree_memory
from distill3r_core.cache.header import HEADER, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.stages.cache.merge import merge_caches

SIZE = (14, 14)


def test_what_a_sample_costs_does_not_depend_on_how_many_there_are(tmp_path, drill):
    count = drill(10_000)
    plan = tuple(
        PlannedSample(f"data/scene{i // 5:06d}/{i % 5:03d}", f"{i:032x}", "train")
        for i in range(count)
    )
    header = replace(a_header(1), plan=plan, size=SIZE)
    with CacheWriter(tmp_path / "cache", header) as writer:
        targets, images = smooth_targets(size=SIZE, depth=True), pictures(size=SIZE)
        sample = writer.encoder().encode("", "", images, targets, {"pictures": ["a", "b"]})
        for planned in plan:
            writer.put(replace(sample, name=planned.name, content=planned.content))
    gc.collect()
    gc.freeze()  # what other tests have left would be walked through while this one allocates
    before, start = tree_memory(), time.process_time()
    cache = TeacherCache(tmp_path / "cache")
    assert len(cache.names()) == count
    opened = time.process_time() - start
    memory = tree_memory() - before
    start = time.process_time()
    merge_caches([tmp_path / "cache"], tmp_path / "merged")
    merged = time.process_time() - start
    gc.unfreeze()
    # A million samples: a minute to open, 3 GB, a header of 120 MB. Merging takes about 4 ms a
    # sample since caches are read without maps (0.9 before): more than an hour, to be mended.
    assert opened < 60e-6 * count + 0.2
    assert memory < 3000 * count + 2_000_000
    assert (tmp_path / "cache" / HEADER).stat().st_size < 120 * count + 2000
    assert merged < 8e-3 * count + 0.5
