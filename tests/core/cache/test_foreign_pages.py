"""Pages of a shard that are cut, flipped or forged end in an error that names the file."""

import os
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import pytest
import torch
from cache_material import a_header, fill

from distill3r_core.cache.database import DATA
from distill3r_core.cache.page_reader import PageReader
from distill3r_core.cache.shard import ShardWriter
from distill3r_core.cache.store import TeacherCache
from distill3r_core.cache.tree_check import check_trees
from distill3r_core.errors import DamageError, UnsafeFileError
from distill3r_core.io.checksums import file_hash

PAGE = 4096
KINDS = ("bit", "bytes", "page", "swap", "cut", "zeros", "number")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A shard with two levels, large values, and pages that were used before."""
    folder = tmp_path_factory.mktemp("whole")
    header = a_header(24)
    fill(folder, header)
    with ShardWriter(folder / "shard-0000") as writer:
        for number in range(12):
            writer.drop(header.plan[number].name)
    return folder


@pytest.fixture(scope="module")
def contents(whole) -> dict[str, torch.Tensor]:
    cache = TeacherCache(whole)
    return {name: cache.read(name).targets.points_global for name in cache.names()}


def _mutated(good: bytes, rng: random.Random) -> bytes:
    data, kind = bytearray(good), rng.choice(KINDS)
    pages = len(data) // PAGE
    # The pages of the trees are few; half of all hits are there.
    trees = [n for n in range(pages) if data[n * PAGE + 10] & 0b1011]
    page = rng.choice(trees) if rng.random() < 0.7 else rng.randrange(pages)
    at = page * PAGE + rng.randrange(PAGE if rng.random() < 0.5 else 160)
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "bytes":
        data[at : at + 8] = rng.randbytes(8)
    elif kind == "page":
        data[page * PAGE : (page + 1) * PAGE] = rng.randbytes(PAGE)
    elif kind == "swap":
        other = rng.randrange(pages)
        one, two = slice(page * PAGE, (page + 1) * PAGE), slice(other * PAGE, (other + 1) * PAGE)
        data[one], data[two] = data[two], data[one]
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "zeros":
        data[at : at + rng.randrange(1, PAGE)] = bytes(rng.randrange(1, PAGE))
    else:
        extreme = rng.choice([0, 1, 2, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 1 << 62, (1 << 64) - 1])
        data[at : at + 8] = struct.pack("<Q", extreme)
    return bytes(data)


def _use(folder: Path, wanted: dict[str, torch.Tensor], rng: random.Random) -> str:
    """Read of a cache and write to it; what became of it."""
    try:
        cache = TeacherCache(folder)
        names = cache.names()
        for name in rng.sample(names, min(1, len(names))):
            found = cache.read(name).targets.points_global
            # Dropped entries may be found again.
            if name in wanted and not torch.equal(found, wanted[name]):
                return "wrong"
        with ShardWriter(folder / "shard-0000") as writer:
            writer.drop("data/scene/003")
            writer.keep_header("0" * 32, b"x" * 5000)
        check_trees(folder / "shard-0000" / DATA)
    except DamageError as error:
        return "refused" if str(folder) in error.message else "unnamed"
    return "used"


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_no_mutated_shard_ends_a_process_that_reads_or_writes_it(tmp_path, whole, contents, count):
    good, rng = (whole / "shard-0000" / DATA).read_bytes(), random.Random(count)
    folder = tmp_path / "cache"
    shutil.copytree(whole, folder)
    data = folder / "shard-0000" / DATA
    told, answer = os.pipe()
    child = os.fork()
    if child == 0:
        for _ in range(count):
            data.unlink()
            data.write_bytes(_mutated(good, rng))
            os.write(answer, f"{_use(folder, contents, rng)}\n".encode())
        os._exit(0)
    os.close(answer)
    with os.fdopen(told) as pipe:
        words = pipe.read().split()
    assert os.waitpid(child, 0)[1] == 0, f"ended at mutation {len(words)}"
    assert set(words) == {"used", "refused"}
    assert min(words.count("used"), words.count("refused")) > count // 10


def test_a_sound_file_passes_the_walk_after_every_transaction(tmp_path):
    """Files of a plain LMDB writer that replaces, with lists of free pages and three levels."""
    rng = random.Random(1)
    sizes = (0, 5, 900, 2100, 30_000)
    with lmdb.open(str(tmp_path), map_size=1 << 28, lib_version=0, sync=False) as database:
        wanted: dict[bytes, bytes] = {}
        for turn in range(16):
            keys = [rng.randbytes(rng.choice([3, 8, 200, 500])) for _ in range(90)]
            keys += rng.sample(sorted(wanted), len(wanted) // 5)
            with database.begin(write=True) as writer:
                for key in set(keys):
                    wanted[key] = rng.randbytes(rng.choice(sizes))
                    writer.put(key, wanted[key])
            if turn % 4 == 3:
                check_trees(tmp_path / DATA)
    reader = PageReader(tmp_path / DATA)
    found = {key: bytes(value) for key, value in reader.items(b"")}
    assert list(found) == sorted(wanted)
    assert found == wanted
    for key in rng.sample(sorted(wanted), 100):
        assert reader.get(key) == wanted[key]
        assert reader.get(key + b"x") is None
    prefix = sorted(wanted)[7][:1]
    expected = [key for key in sorted(wanted) if key.startswith(prefix)]
    assert [key for key, _ in reader.items(prefix, large=False)] == expected


def test_the_walk_takes_less_than_a_millisecond_a_megabyte(tmp_path):
    with (
        lmdb.open(str(tmp_path), map_size=1 << 28, lib_version=0, sync=False) as database,
        database.begin(write=True) as writer,
    ):
        for number in range(80):
            writer.put(struct.pack(">cIH", b"t", number, 0), bytes(250_000))  # as of real maps
    path = tmp_path / DATA
    # A program of its own: the checks of types that tests run under are not the walk's.
    done = subprocess.run(
        [sys.executable, "-c", _WALKS, path], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1e-3 * path.stat().st_size / 1e6


_WALKS = """
import sys, time
from pathlib import Path
from distill3r_core.cache.tree_check import check_trees
seconds = []
for _ in range(5):
    start = time.process_time()
    check_trees(Path(sys.argv[1]))
    seconds.append(time.process_time() - start)
print(min(seconds))
"""

_READ_ON = """
import sys, time
from distill3r_core.cache.store import TeacherCache
from distill3r_core.errors import Distill3rError
cache = TeacherCache(sys.argv[1])
names = cache.names()
print("reading", flush=True)
try:
    while True:
        for name in names:
            cache.read(name)
except Distill3rError as error:
    print(error.message, flush=True)
    sys.exit(9)
"""


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_shard_that_is_cut_while_it_is_read_ends_in_a_message(tmp_path, whole, share):
    shutil.copytree(whole, tmp_path / "cache")
    data = tmp_path / "cache" / "shard-0000" / DATA
    with subprocess.Popen(
        [sys.executable, "-c", _READ_ON, tmp_path / "cache"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.05)
        os.truncate(data, int(share * data.stat().st_size))
        message, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 9, (process.returncode, errors)
    assert str(data) in message


def test_a_reader_maps_nothing_and_writes_nothing(tmp_path, whole):
    shutil.copytree(whole, tmp_path / "cache")
    shard = tmp_path / "cache" / "shard-0000"
    (shard / "lock.mdb").unlink()
    before = file_hash(shard / DATA)
    cache = TeacherCache(tmp_path / "cache")
    cache.read(cache.names()[0])
    assert str(shard) not in Path("/proc/self/maps").read_text()
    assert not (shard / "lock.mdb").exists()
    assert file_hash(shard / DATA) == before


@pytest.mark.parametrize("name", ["lock.mdb", DATA])
def test_a_writer_follows_no_link(tmp_path, name):
    fill(tmp_path / "cache", a_header())
    path = tmp_path / "cache" / "shard-0000" / name
    aside = path.rename(tmp_path / "elsewhere")
    path.symlink_to(aside)
    before = file_hash(aside)
    with pytest.raises(UnsafeFileError, match=name):
        ShardWriter(tmp_path / "cache" / "shard-0000")
    assert file_hash(aside) == before


def test_readers_beside_a_fast_writer_see_only_what_was_written(tmp_path):
    """Pages are used again every third transaction; a reader never mixes two states."""
    size = 200
    with lmdb.open(str(tmp_path), map_size=1 << 28, lib_version=0, sync=False) as database:
        with database.begin(write=True) as writer:
            for number in range(size):
                writer.put(b"k%03d" % number, struct.pack("<Q", 0) * 40)
        child = os.fork()
        if child == 0:
            os._exit(0 if _reads_states(tmp_path / DATA, size) else 1)
        turn, ended = 0, (0, 0)
        while ended == (0, 0):
            turn += 1
            with database.begin(write=True) as writer:
                for number in range(turn % 7, size, 7):
                    writer.put(b"k%03d" % number, struct.pack("<Q", turn) * 40)
            ended = os.waitpid(child, os.WNOHANG)
        assert ended[1] == 0
        assert turn > 50


def _reads_states(path: Path, size: int) -> bool:
    reader, end = PageReader(path), time.monotonic() + 0.7
    while time.monotonic() < end:
        found = {key: bytes(value) for key, value in reader.items(b"k")}
        if len(found) != size or any(
            len(set(struct.iter_unpack("<Q", v))) != 1 for v in found.values()
        ):
            return False
        value = reader.get(b"k%03d" % (int(end * 1e6) % size))
        if value is None or len(set(struct.iter_unpack("<Q", value))) != 1:
            return False
    return True
