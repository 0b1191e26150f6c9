"""What the system refuses is told with the limit that was met, and is never called damage."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from cache_material import SIZE, a_header, fill

from distill3r_core.cache.database import Database
from distill3r_core.cache.shard import ShardWriter
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.errors import SystemLimitError
from distill3r_core.stages.cache.verify import VerifySettings, verify_cache
from distill3r_core.system.system_limits import limit_error

_SHARDS = 16
_VERIFY = """
import resource, sys
from pathlib import Path
from distill3r_core.errors import SystemLimitError
from distill3r_core.stages.cache.verify import VerifySettings, verify_cache
kind, path = sys.argv[1:]
if kind == "files":
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
elif kind == "memory":
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + (160 << 20)  # 16 MB for ten of the shards
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    report = verify_cache(VerifySettings(Path(path), manifest=Path(path) / "none", repair=True))
    print("ok" if report.result["ok"] else report.result["damaged"])
except SystemLimitError as error:
    print("refused:", error.message, "|", error.hint)
"""


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    for shard in range(_SHARDS):
        fill(cache, a_header(1), shard=shard)
    return cache


def _verified(kind: str, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _VERIFY, kind, cache],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.stdout


def test_a_repair_under_a_limit_names_it_and_moves_no_sound_shard(many_shards):
    found = _verified("files", many_shards)
    assert found.startswith("refused:"), found
    assert "open files is 16" in found
    assert "ulimit" in found
    assert _verified("memory", many_shards) == "ok\n"  # readers map nothing
    assert sorted(path.name for path in many_shards.glob("*shard*")) == [
        f"shard-{number:04d}" for number in range(_SHARDS)
    ]
    assert _verified("none", many_shards) == "ok\n"


@pytest.mark.parametrize(
    "refused",
    [
        lmdb.Error("data.mdb: " + os.strerror(errno.ENOLCK)),
        lmdb.Error("data.mdb: " + os.strerror(errno.ENODEV)),
        lmdb.MemoryError("data.mdb: Cannot allocate memory"),
        lmdb.Error("lock.mdb: " + os.strerror(errno.EMFILE)),
    ],
)
def test_no_locks_no_shared_map_and_no_memory_are_not_damage(tmp_path, monkeypatch, refused):
    fill(tmp_path, a_header())

    def refuse(*_args, **_options):
        raise refused

    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(SystemLimitError, match=r"the system refuses to open .*data\.mdb"):
        ShardWriter(tmp_path / "shard-0000")
    settings = VerifySettings(tmp_path, manifest=tmp_path / "none", repair=True)
    assert verify_cache(settings).result["ok"]  # readers need none of them
    monkeypatch.undo()
    assert (tmp_path / "shard-0000" / "data.mdb").is_file()
    assert len(TeacherCache(tmp_path).names()) == 3


def test_a_reader_follows_a_writer_of_another_process(tmp_path):
    header = a_header(6)
    fill(tmp_path, a_header(1, plan=header.plan[:1]))
    cache = TeacherCache(tmp_path)
    assert len(cache.names()) == 1
    program = (
        "import sys; from pathlib import Path; from cache_material import a_header, fill\n"
        "fill(Path(sys.argv[1]), a_header(6))"
    )
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": places}
    command = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(command, check=True, timeout=120, env=environment)
    assert cache.read("data/scene/000").images.shape == (2, 3, *SIZE)
    cache.refresh()
    assert len(cache.names()) == 6


@pytest.mark.parametrize(
    ("code", "named"),
    [
        (errno.EMFILE, f"open files is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"),
        (errno.ENFILE, "whole machine"),
        (errno.ENOLCK, "locks"),
        (errno.ENODEV, "shared memory maps"),
    ],
)
def test_a_refusal_names_the_limit_and_a_way_out(code, named):
    error = limit_error("a/file", code)
    assert error is not None
    assert named in error.message
    assert "a/file" in error.message
    assert error.hint
    assert limit_error("a/file", errno.ENOENT) is None


def test_a_writer_that_meets_the_limit_of_its_map_is_told_which(tmp_path, monkeypatch):
    monkeypatch.setattr(Database, "_map_size", lambda _: 1 << 16)
    with pytest.raises(SystemLimitError, match=r"address space|memory"):
        fill(tmp_path, a_header(20))
    monkeypatch.undo()
    with CacheWriter(tmp_path, a_header(20)):
        assert TeacherCache(tmp_path).path == tmp_path
