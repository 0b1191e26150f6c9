"""The store: whole samples, any process, many shards, one writer each."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cache_material import SIZE, a_header, fill, pictures, smooth_targets

from distill3r_core.cache.header import HEADER, PlannedSample, publish_header, read_header
from distill3r_core.cache.shard import LONGEST_NAME, ShardReader, ShardWriter
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.errors import CacheError, ConflictError, DamageError, InputMissingError


@pytest.mark.parametrize("kind", [{}, {"depth": True}, {"independent": True}])
def test_a_sample_comes_back_to_within_float16(tmp_path, kind):
    fill(tmp_path, a_header(), **kind)
    cache = TeacherCache(tmp_path)
    sample, wanted = cache.read("data/scene/001"), smooth_targets(seed=1, **kind)
    assert sample.split == "train"
    assert sample.image_hashes == ("p1-0", "p1-1")
    assert torch.equal(sample.images, pictures(seed=1))
    assert torch.equal(sample.targets.valid_mask, wanted.valid_mask)
    assert torch.equal(sample.targets.global_from_local, wanted.global_from_local)
    z = sample.targets.points_local[..., 2]
    assert torch.equal(z, wanted.points_local[..., 2].half().float())
    close = {"rtol": 2**-10, "atol": 1e-5}
    torch.testing.assert_close(sample.targets.points_local, wanted.points_local, **close)
    torch.testing.assert_close(sample.targets.confidence_local, wanted.confidence_local, **close)
    torch.testing.assert_close(
        sample.targets.points_global, wanted.points_global, rtol=2**-9, atol=2**-8
    )


def test_any_views_in_any_order_are_those_of_the_whole_sample(tmp_path):
    fill(tmp_path, a_header())
    cache = TeacherCache(tmp_path)
    whole, turned = cache.read("data/scene/000"), cache.read("data/scene/000", [1, 0, 1])
    assert torch.equal(turned.images, whole.images[[1, 0, 1]])
    assert torch.equal(turned.targets.points_local, whole.targets.points_local[[1, 0, 1]])
    assert turned.image_hashes == tuple(whole.image_hashes[view] for view in (1, 0, 1))


def test_names_are_those_that_are_planned_finished_and_of_the_split(tmp_path):
    header = a_header(4)
    fill(tmp_path, replace(header, plan=header.plan[:3]))
    publish_header(tmp_path, header)
    cache = TeacherCache(tmp_path)
    assert cache.names() == [f"data/scene/{i:03d}" for i in range(3)]
    assert cache.names("val") == ["data/scene/002"]
    assert cache.missing() == ["data/scene/003"]
    with pytest.raises(CacheError, match="data/scene/003"):
        cache.read("data/scene/003")


def test_a_sample_whose_content_changed_is_missing_until_it_is_replaced(tmp_path):
    header = a_header(2)
    fill(tmp_path, header)
    changed = replace(header.plan[0], content="other pixels")
    header = replace(header, plan=(changed, header.plan[1]))
    publish_header(tmp_path, header)
    assert TeacherCache(tmp_path).missing() == [changed.name]
    fill(tmp_path, replace(header, plan=(changed,)), seed=7)
    publish_header(tmp_path, header)
    cache = TeacherCache(tmp_path)
    assert cache.missing() == []
    assert torch.equal(cache.read(changed.name).images, pictures(seed=7))


def test_a_cache_is_not_begun_among_other_files_nor_among_shards_that_nobody_describes(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(ConflictError, match=r"photos holds other files and no cache.json: a.jpg$"):
        publish_header(tmp_path / "photos", a_header())
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]

    cache = tmp_path / "cache"
    fill(cache, a_header())
    (cache / HEADER).unlink()
    with pytest.raises(ConflictError, match=r"no cache.json: shard-0000"):
        CacheWriter(cache, a_header())


def test_a_sample_that_is_no_longer_planned_stays_unread(tmp_path):
    header = a_header(3)
    fill(tmp_path, header)
    publish_header(tmp_path, replace(header, plan=header.plan[1:]))
    assert TeacherCache(tmp_path).names() == [sample.name for sample in header.plan[1:]]
    publish_header(tmp_path, header)
    assert len(TeacherCache(tmp_path).names()) == 3


def test_a_moved_cache_is_the_same_cache(tmp_path):
    fill(tmp_path / "here", a_header())
    TeacherCache(tmp_path / "here").read("data/scene/000")
    (tmp_path / "here").rename(tmp_path / "there")
    fill(tmp_path / "here", a_header(), seed=50)
    assert torch.equal(TeacherCache(tmp_path / "there").read("data/scene/000").images, pictures())


def test_many_shards_read_as_one_cache(tmp_path):
    header = a_header(6)
    for shard in range(3):
        part = replace(header, plan=header.plan[shard::3])
        fill(tmp_path, part, seed=10 * shard, shard=shard)
    publish_header(tmp_path, header)
    cache = TeacherCache(tmp_path)
    assert cache.missing() == []
    assert torch.equal(cache.read("data/scene/004").images, pictures(seed=11))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"teacher": "synthetic"}, "teacher: depth → synthetic"),
        ({"size": (14, 28)}, "size: [28, 42] → [14, 28]"),
        ({"threshold": 0.3}, "threshold: None → 0.3"),
        ({"weights_hash": "ab"}, "weights_hash"),
        ({"codec": "exact"}, "codec"),
    ],
)
def test_a_cache_made_with_other_settings_is_refused_with_the_difference_named(
    tmp_path, change, named
):
    fill(tmp_path, a_header())
    with pytest.raises(ConflictError) as error:
        CacheWriter(tmp_path, a_header(**change))
    assert named in error.value.message


def test_a_cache_of_another_format_version_is_refused_with_both_named(tmp_path):
    fill(tmp_path, a_header())
    path = tmp_path / HEADER
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"format_version": 7}))
    with pytest.raises(ConflictError, match="version 7, this program reads 1"):
        TeacherCache(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"plan": []}', "\x00\xff"])
def test_a_header_that_is_no_header_is_an_error_and_no_crash(tmp_path, text):
    (tmp_path / HEADER).write_bytes(text.encode("latin-1"))
    with pytest.raises(CacheError):
        read_header(tmp_path)
    with pytest.raises(InputMissingError) as error:
        read_header(tmp_path / "nothing")
    assert "distill3r cache" in (error.value.hint or "")


def test_a_header_survives_its_file(tmp_path):
    odd = PlannedSample('data/"odd", ünï/000', "c", "train")
    header = replace(a_header(), plan=(*a_header().plan, odd), size="auto")
    publish_header(tmp_path, header)
    assert read_header(tmp_path) == header


def test_a_second_writer_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
    fill(tmp_path, a_header())
    program = (
        "import sys, time; from pathlib import Path\n"
        "from distill3r_core.cache.shard import ShardWriter\n"
        "writer = ShardWriter(Path(sys.argv[1])); print('open', flush=True); time.sleep(600)"
    )
    shard = tmp_path / "shard-0000"
    with subprocess.Popen(
        [sys.executable, "-c", program, shard], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ConflictError, match="another process is writing"):
            ShardWriter(shard)
        assert len(TeacherCache(tmp_path).names()) == 3  # readers may
        other.kill()
    ShardWriter(shard).close()


def test_a_child_of_the_writer_neither_holds_nor_frees_its_lock(tmp_path):
    writer = CacheWriter(tmp_path, a_header())
    awake, asleep = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(asleep)
        os.read(awake, 1)  # lives until the parent closes its end
        os._exit(0)
    os.close(awake)
    with pytest.raises(ConflictError):
        ShardWriter(tmp_path / "shard-0000")
    writer.close()
    ShardWriter(tmp_path / "shard-0000").close()  # though the child is alive
    os.close(asleep)
    os.waitpid(child, 0)


def read_and_compare(cache: TeacherCache) -> int:
    return sum(
        int(torch.equal(cache.read(name).images, pictures(seed=number)))
        for number, name in enumerate(cache.names())
    )


def _child(cache: TeacherCache, answer) -> None:
    answer.put(read_and_compare(cache))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_open_cache_can_be_read_in_child_processes_and_goes_on(tmp_path, method):
    fill(tmp_path, a_header())
    cache = TeacherCache(tmp_path)
    assert read_and_compare(cache) == 3
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=_child, args=(cache, answers), daemon=True)
    child.start()
    assert read_and_compare(cache) == 3
    assert answers.get(timeout=300) == 3  # a spawned child imports everything anew
    child.join()


def test_a_fork_waits_for_readers_in_other_threads(tmp_path):
    fill(tmp_path, a_header())
    cache, stop, counts = TeacherCache(tmp_path), threading.Event(), []

    def loop() -> None:
        count = 0
        while not stop.is_set():
            count += read_and_compare(cache) == 3
        counts.append(count)

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    statuses = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(0 if read_and_compare(cache) == 3 else 1)
        statuses.append(os.waitpid(child, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 10
    assert min(counts) > 0


def test_a_cache_can_be_pickled_and_opened_twice_in_a_process(tmp_path):
    fill(tmp_path, a_header())
    first, second = TeacherCache(tmp_path), TeacherCache(str(tmp_path))
    assert read_and_compare(first) == read_and_compare(second) == 3
    assert read_and_compare(pickle.loads(pickle.dumps(first))) == 3


def test_the_writing_process_reads_what_it_has_written(tmp_path):
    header = a_header()
    with CacheWriter(tmp_path, header) as writer:
        encoder = writer.encoder()
        for number, planned in enumerate(header.plan):
            images, targets = pictures(seed=number), smooth_targets(seed=number)
            detail = {"pictures": ["", ""]}
            writer.put(encoder.encode(planned.name, planned.content, images, targets, detail))
            assert len(TeacherCache(tmp_path).names()) == number + 1
        cache = TeacherCache(tmp_path)
        assert read_and_compare(cache) == 3
    assert read_and_compare(cache) == 3


def test_a_cache_on_a_read_only_file_system_can_be_read(tmp_path):
    fill(tmp_path / "cache", a_header())
    (tmp_path / "mount").mkdir()
    program = (
        "import sys; from distill3r_core.cache.store import TeacherCache\n"
        "cache = TeacherCache(sys.argv[1])\n"
        "print(len([cache.read(name) for name in cache.names()]))"
    )
    script = (
        f"mount --bind {tmp_path}/cache {tmp_path}/mount && "
        f"mount -o remount,bind,ro {tmp_path}/mount && "
        f"! touch {tmp_path}/mount/x 2>/dev/null && "
        f"{sys.executable} -c '{program}' {tmp_path}/mount"
    )
    isolated = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a test mount anything")
    found = subprocess.run(
        [*isolated, "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert (found.stdout.strip(), found.returncode) == ("3", 0), found.stderr


def test_a_name_that_lmdb_cannot_hold_is_refused(tmp_path):
    long = PlannedSample("d/" + "x" * LONGEST_NAME, "c", "train")
    with pytest.raises(CacheError, match="at most 500"):
        fill(tmp_path, replace(a_header(), plan=(long,)))


def test_a_dropped_sample_is_missing_and_the_others_stay(tmp_path):
    fill(tmp_path, a_header())
    with ShardWriter(tmp_path / "shard-0000") as writer:
        writer.drop("data/scene/001")
    assert TeacherCache(tmp_path).missing() == ["data/scene/001"]
    assert len(ShardReader(tmp_path / "shard-0000").entries()) == 2


def test_damage_names_the_cache_the_sample_and_the_view(tmp_path):
    fill(tmp_path, a_header())
    cache = TeacherCache(tmp_path)
    shard, entry = cache.place("data/scene/001")
    record = bytes(shard.maps(entry, 1))
    data = tmp_path / "shard-0000" / "data.mdb"
    stored = data.read_bytes()
    at = stored.find(record[20:200])
    broken = bytearray(stored)
    broken[at + 30] ^= 4
    data.write_bytes(broken)
    with pytest.raises(DamageError, match=r"data/scene/001, view 1"):
        TeacherCache(tmp_path).read("data/scene/001")
    assert TeacherCache(tmp_path).read("data/scene/000").images.shape == (2, 3, *SIZE)


def test_a_limited_address_space_does_not_stop_a_reader_or_a_writer(tmp_path):
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from cache_material import a_header, fill\n"
        "from distill3r_core.cache.store import TeacherCache\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "fill(Path(sys.argv[1]), a_header())\n"
        "print(len(TeacherCache(sys.argv[1]).names()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.stdout == "3\n", found.stderr
