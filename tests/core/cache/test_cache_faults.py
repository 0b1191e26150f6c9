"""Faults with real processes: kills, cut files, a full disk, readers beside a writer."""

import ctypes
import errno
import hashlib
import json
import multiprocessing
import os
import platform
import random
import resource
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_material import a_header, fill, pictures, rgbd_manifest, smooth_targets

from distill3r_core.cache.database import DATA
from distill3r_core.cache.sample_codec import EncodedSample, SampleEncoder
from distill3r_core.cache.shard import ShardReader, ShardWriter, shard_folders
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.cache.tree_check import check_length
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import DamageError, DiskFaultError, DiskFullError
from distill3r_core.stages.cache import CacheSettings, build_cache

PAGE = 4096


@pytest.fixture(scope="module")
def encoded() -> list[EncodedSample]:
    """Samples that are encoded once: the drills are about storing them."""
    encoder = SampleEncoder()
    return [
        encoder.encode(
            planned.name,
            planned.content,
            pictures(seed=number),
            smooth_targets(seed=number),
            {"pictures": ["a", "b"]},
        )
        for number, planned in enumerate(a_header(12).plan)
    ]


def write_missing(folder: Path, samples: list[EncodedSample]) -> None:
    with CacheWriter(folder, a_header(len(samples))) as writer:
        missing = set(TeacherCache(folder).missing())
        for sample in samples:
            if sample.name in missing:
                writer.put(sample)


def stored(folder: Path) -> dict[str, str]:
    """A hash of every record of every finished sample, by name."""
    cache = TeacherCache(folder)
    found = {}
    for name in cache.names():
        shard, entry = cache.place(name)
        digest = hashlib.sha256()
        for view in range(entry.views):
            digest.update(shard.maps(entry, view))
            digest.update(shard.image(entry, view))
        digest.update(json.dumps(shard.detail(entry)).encode())
        found[name] = digest.hexdigest()
    return found


def in_child(work: Callable[[], None]) -> int:
    """Fork a process that does `work`; gives its number. No imports are paid for."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def test_killed_writers_lose_nothing_and_resume_to_the_same_content(tmp_path, drill, encoded):
    whole = tmp_path / "whole"
    start = time.perf_counter()
    write_missing(whole, encoded)
    span = time.perf_counter() - start
    wanted = stored(whole)
    rng = random.Random(0)
    folder, kills, runs = tmp_path / "killed-0", 0, 0
    while kills < drill(100):
        before = stored(folder) if (folder / "cache.json").exists() else {}
        child = in_child(lambda where=folder: write_missing(where, encoded))
        time.sleep(rng.random() * span * 1.2)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        after = stored(folder) if (folder / "cache.json").exists() else {}
        assert before.items() <= after.items() <= wanted.items()
        if len(after) == len(wanted):
            runs += 1
            folder = tmp_path / f"killed-{runs}"
    write_missing(folder, encoded)
    assert stored(folder) == wanted


def test_every_length_that_a_cut_leaves_is_noticed_before_the_file_is_mapped(tmp_path, drill):
    fill(tmp_path, a_header())
    data = tmp_path / "shard-0000" / DATA
    whole = data.read_bytes()
    borders = [at + off for at in range(0, len(whole), PAGE) for off in (-1, 0, 1)]
    rng = np.random.default_rng(0)
    lengths = [*borders, *rng.integers(0, len(whole), drill(1000))]
    cut = tmp_path / "cut"
    for length in sorted({int(n) for n in lengths if 0 <= n < len(whole)}, reverse=True):
        cut.write_bytes(whole[:length])
        with pytest.raises(DamageError, match=r"truncated|missing"):
            check_length(cut)
    check_length(data)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_reader_and_a_writer_of_a_cut_file_end_with_an_error_and_no_crash(tmp_path, share):
    fill(tmp_path, a_header())
    data = tmp_path / "shard-0000" / DATA
    os.truncate(data, int(share * data.stat().st_size))
    with pytest.raises(DamageError):
        TeacherCache(tmp_path).names()
    with pytest.raises(DamageError):
        CacheWriter(tmp_path, a_header())


def test_nobody_ever_sees_a_database_that_is_half_made(tmp_path):
    count = 300

    def work() -> None:
        for number in range(count):
            ShardWriter(tmp_path / f"{number}").close()

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    for number in range(count):
        data = tmp_path / f"{number}" / DATA
        while not data.exists():
            assert child.is_alive() or data.exists()
        check_length(data)
    child.join()
    assert child.exitcode == 0


def test_partial_files_of_killed_writers_go_with_the_next_one(tmp_path, encoded):
    write_missing(tmp_path, encoded[:1])
    child = in_child(lambda: None)
    os.waitpid(child, 0)  # its number belongs to no process now
    shard = tmp_path / "shard-0000"
    gone = [shard / f".data.{child}.partial.mdb", shard / f".data.mdb.{child}.partial",
            tmp_path / f".cache.{child}.partial.json"]  # fmt: skip
    stays = shard / f".data.{os.getppid()}.partial.mdb"
    for path in (*gone, stays):
        path.write_bytes(b"half")
    write_missing(tmp_path, encoded)
    assert not any(path.exists() for path in gone)
    assert stays.exists()


def test_a_writer_never_leaves_a_file_shorter_than_its_pages_say(tmp_path, encoded):
    with CacheWriter(tmp_path, a_header(12)) as writer:
        for sample in [*encoded, *encoded[:6], *encoded[:3]]:  # replaces some
            writer.put(sample)
            check_length(tmp_path / "shard-0000" / DATA)


def test_a_file_that_grows_while_it_is_measured_is_not_called_truncated(
    tmp_path, encoded, monkeypatch
):
    real, measured = os.fstat, []
    with CacheWriter(tmp_path, a_header(12)) as writer:

        def measure_and_be_overtaken(descriptor: int) -> os.stat_result:
            found = real(descriptor)
            if not measured:  # the writer measures, too
                measured.append(found.st_size)
                for sample in encoded:
                    writer.put(sample)
            return found

        writer.put(encoded[0])
        monkeypatch.setattr(os, "fstat", measure_and_be_overtaken)
        check_length(tmp_path / "shard-0000" / DATA)
        monkeypatch.undo()
    assert (tmp_path / "shard-0000" / DATA).stat().st_size > measured[0]


def _write_until_full(folder: Path, samples: list[EncodedSample], limit: int, answer) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        write_missing(folder, samples)
    except DiskFullError as error:
        answer.put((error.message, error.hint))
    else:
        answer.put(None)


@pytest.mark.parametrize("limit", [PAGE, 1 << 16, 1 << 17])
def test_a_full_disk_is_said_keeps_what_is_there_and_is_resumed(tmp_path, encoded, limit):
    whole = tmp_path / "whole"
    write_missing(whole, encoded)
    assert (whole / "shard-0000" / DATA).stat().st_size > limit
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    folder = tmp_path / "full"
    child = context.Process(target=_write_until_full, args=(folder, encoded, limit, answer))
    child.start()
    message, hint = answer.get(timeout=60)
    child.join()
    assert child.exitcode == 0
    assert str(folder) in message
    assert "free some space" in hint
    if (folder / "cache.json").exists():
        assert stored(folder).items() <= stored(whole).items()
    write_missing(folder, encoded)
    assert stored(folder) == stored(whole)


def refuse_to_sync(code: int) -> None:
    """Have the kernel answer this thread's fsync and fdatasync with an error, as bad disks do."""
    load, equal, answer = 0x20, 0x15, 0x06  # BPF: number of the system call; if it is; return
    program = b"".join(
        struct.pack("<HBBI", *instruction)
        for instruction in (
            (load, 0, 0, 0),
            (equal, 1, 0, 74),  # fsync on x86-64
            (equal, 0, 1, 75),  # fdatasync
            (answer, 0, 0, 0x00050000 | code),  # SECCOMP_RET_ERRNO
            (answer, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
        )
    )
    body = ctypes.create_string_buffer(program)
    filter_ = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 5, ctypes.addressof(body)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
    assert prctl(22, 2, filter_, 0, 0) == 0, "seccomp"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64's system calls")
def test_a_failing_disk_is_not_called_a_full_one(tmp_path, encoded):
    write_missing(tmp_path, encoded[:2])
    before = stored(tmp_path)

    def work() -> None:
        with CacheWriter(tmp_path, a_header(3)) as writer:
            refuse_to_sync(errno.EIO)
            with pytest.raises(DiskFaultError, match="failing") as error:
                writer.put(encoded[2])
            assert str(tmp_path / "shard-0000") in error.value.message
            assert "free some space" not in (error.value.hint or "")
            with pytest.raises(DiskFaultError):
                writer.close()

    assert os.waitpid(in_child(work), 0)[1] == 0
    assert before.items() <= stored(tmp_path).items()


def test_a_reader_beside_a_writer_sees_whole_samples_and_ever_more_of_them(tmp_path, encoded):
    write_missing(tmp_path, encoded[:1])
    wanted = {}

    def work() -> None:
        with CacheWriter(tmp_path, a_header(12)) as writer:
            for _ in range(3):
                for sample in encoded:
                    writer.put(sample)

    child = in_child(work)
    cache, seen = TeacherCache(tmp_path), 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        cache.refresh()
        names = cache.names()
        assert len(names) >= seen
        seen = len(names)
        for name in names:
            cache.read(name)
    wanted = {sample.name for sample in encoded}
    cache.refresh()
    assert set(cache.names()) == wanted


def test_a_flipped_bit_anywhere_in_the_tree_is_an_error_or_harmless_but_no_crash(tmp_path, drill):
    fill(tmp_path, a_header(12))
    data = tmp_path / "shard-0000" / DATA
    good, rng = data.read_bytes(), random.Random(0)
    kinds = {
        at: int.from_bytes(good[at + 10 : at + 12], "little") for at in range(0, len(good), PAGE)
    }
    tree = [at for at, kind in kinds.items() if kind & 0b1011]  # branches, leaves, meta
    whole = TeacherCache(tmp_path)
    wanted = {name: whole.read(name) for name in whole.names()}

    def work() -> None:
        try:
            cache = TeacherCache(tmp_path)
            found = {name: cache.read(name) for name in cache.names()}
        except DamageError:
            return
        for name, sample in found.items():
            assert torch.equal(sample.images, wanted[name].images)
            points = sample.targets.points_global
            assert torch.equal(points, wanted[name].targets.points_global)

    for _ in range(drill(500)):
        broken = bytearray(good)
        broken[rng.choice(tree) + rng.randrange(PAGE)] ^= 1 << rng.randrange(8)
        data.write_bytes(broken)
        assert os.waitpid(in_child(work), 0)[1] == 0


def test_an_lmdb_file_of_zeros_or_of_another_kind_is_refused(tmp_path):
    fill(tmp_path, a_header())
    data = tmp_path / "shard-0000" / DATA
    size = data.stat().st_size
    for content in (b"\0" * size, b"\xff" * size, os.urandom(size), b"not a database"):
        data.write_bytes(content)
        with pytest.raises(DamageError):
            TeacherCache(tmp_path).names()


def make_shard(manifest: Path, output: Path, shard: str) -> None:
    settings = CacheSettings(manifest=manifest, output=output, size="28x42")
    build_cache(settings, resume=True, shard=shard)


def at_once(manifest: Path, output: Path, count: int) -> None:
    """All shards of a cache, each in a process of its own."""
    context = multiprocessing.get_context("forkserver")  # it imports everything once
    context.set_forkserver_preload(["distill3r_core.stages.cache.build_stage"])
    children = [
        context.Process(target=make_shard, args=(manifest, output, f"{index}/{count}"))
        for index in range(count)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * count


def test_four_writers_make_what_one_makes_and_three_finish_for_a_dead_one(tmp_path):
    manifest = rgbd_manifest(tmp_path, scenes=3, samples=4)
    build_cache(CacheSettings(manifest=manifest, output=tmp_path / "one", size="28x42"))
    wanted, four = stored(tmp_path / "one"), tmp_path / "four"
    at_once(manifest, four, 4)
    assert stored(four) == wanted
    assert len(shard_folders(four)) == 4

    dead = shard_folders(four)[2]
    assert ShardReader(dead).entries()
    dead.rename(tmp_path / "gone")  # all that a rank had made
    at_once(manifest, four, 3)
    assert stored(four) == wanted


def test_a_rank_that_is_killed_leaves_its_finished_samples_to_those_who_resume(tmp_path):
    manifest = rgbd_manifest(tmp_path, scenes=3, samples=8)
    wanted = {sample.name for sample in read_manifest(manifest).samples()}
    context = multiprocessing.get_context("forkserver")
    child = context.Process(target=make_shard, args=(manifest, tmp_path / "cache", "1/4"))
    child.start()
    shard = tmp_path / "cache" / "shard-0001"
    while child.is_alive() and not (shard / DATA).exists():
        time.sleep(0.002)
    child.kill()
    child.join()
    at_once(manifest, tmp_path / "cache", 3)
    assert set(TeacherCache(tmp_path / "cache").names()) == wanted
