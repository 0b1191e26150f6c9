"""A cache whose header is lost or damaged, and shards that belong to another cache."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cache_material import a_header, fill, records
from hypothesis import given
from hypothesis import strategies as st

from distill3r_core.cache.database import Database
from distill3r_core.cache.header import HEADER, read_header
from distill3r_core.cache.header_record import PlannedSample, header_text, parse_header
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.errors import CacheError, ConflictError, InputMissingError
from distill3r_core.stages.cache import build_cache
from distill3r_core.stages.cache.verify import VerifySettings, verify_cache


def _verify(path: Path, *, repair: bool = False):
    return verify_cache(VerifySettings(path, manifest=path / "none.csv", repair=repair))


@given(st.data())
def test_any_flipped_bit_of_a_header_is_noticed(data):
    text = header_text(replace(a_header(), identity="ab" * 16, revision=3))
    position = data.draw(st.integers(0, 8 * len(text) - 1))
    broken = bytearray(text)
    broken[position // 8] ^= 1 << position % 8
    with pytest.raises((CacheError, ConflictError)):
        parse_header(bytes(broken), source="cache.json")


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=20))
def test_any_name_comes_back_from_a_header(name):
    header = replace(a_header(), plan=(PlannedSample(name, "c", "train"),))
    assert parse_header(header_text(header), source="cache.json") == header


@pytest.mark.parametrize("damage", ["flipped", "empty", "removed", "junk", "other version"])
def test_repair_rebuilds_the_header_from_the_shards(settings, damage):
    build_cache(settings)
    path = settings.output / HEADER
    text, before = path.read_bytes(), records(settings.output)
    match damage:
        case "flipped":
            path.write_bytes(text.replace(b'"threshold": null', b'"threshold": 0.25'))
        case "empty":
            path.write_bytes(b"")
        case "junk":
            path.write_bytes(b"[" * 100_000)
        case "other version":
            path.write_bytes(text.replace(b'"format_version": 1', b'"format_version": 3'))
        case _:
            path.unlink()
    with pytest.raises((CacheError, ConflictError, InputMissingError)):
        TeacherCache(settings.output)
    found = _verify(settings.output)
    assert not found.result["ok"]
    assert HEADER in found.result["damaged"][0]
    assert _verify(settings.output, repair=True).result["ok"]
    assert path.read_bytes() == text
    assert records(settings.output) == before
    assert build_cache(settings).finished_before


def test_the_hint_of_a_damaged_header_is_the_command_that_mends_it(tmp_path):
    fill(tmp_path, a_header())
    (tmp_path / HEADER).write_text("{")
    with pytest.raises(CacheError) as error:
        TeacherCache(tmp_path)
    assert f"verify --repair {tmp_path}" in (error.value.hint or "")


def test_a_rebuilt_header_is_the_newest_that_a_shard_holds(tmp_path):
    fill(tmp_path, a_header(2), shard=0)
    fill(tmp_path, a_header(3), shard=1)
    newest = read_header(tmp_path)
    (tmp_path / HEADER).unlink()
    _verify(tmp_path, repair=True)
    assert len(newest.plan) == 3
    assert read_header(tmp_path) == newest


def test_without_any_copy_a_header_is_not_invented(tmp_path):
    fill(tmp_path, a_header())
    (tmp_path / HEADER).unlink()
    shutil.rmtree(tmp_path / "shard-0000")
    with pytest.raises(InputMissingError):
        _verify(tmp_path, repair=True)


@pytest.mark.parametrize("key", [b"c", b"h"])
def test_a_damaged_copy_of_the_header_is_written_again_and_costs_no_sample(settings, key):
    build_cache(settings)
    before = records(settings.output)
    database = Database(settings.output / "shard-0000")
    with database.writing() as transaction:
        value = bytearray(transaction.get(key))
        value[3] ^= 1
        transaction.put(key, bytes(value))
    database.close()
    assert not _verify(settings.output).result["ok"]
    assert _verify(settings.output, repair=True).result["ok"]
    assert _verify(settings.output).result["ok"]
    assert records(settings.output) == before


@pytest.mark.parametrize("samples", [3, 5])
def test_a_shard_of_another_cache_is_refused_by_name_and_left_where_it_is(tmp_path, samples):
    fill(tmp_path / "mine", a_header())
    fill(tmp_path / "other", a_header(samples), seed=9)
    guest = tmp_path / "mine" / "shard-0001"
    shutil.copytree(tmp_path / "other" / "shard-0000", guest)
    with pytest.raises(ConflictError, match=f"{guest} belongs to another cache"):
        TeacherCache(tmp_path / "mine").names()
    with pytest.raises(ConflictError, match="shard-0001"):
        CacheWriter(tmp_path / "mine", a_header(), shard=1)
    for repair in (False, True):
        report = _verify(tmp_path / "mine", repair=repair)
        assert not report.result["ok"]
        assert any("shard-0001" in line for line in report.result["damaged"])
    assert (guest / "data.mdb").is_file()
    shutil.rmtree(guest)
    assert _verify(tmp_path / "mine").result["ok"]


def test_a_copied_or_moved_cache_is_still_one_cache(tmp_path):
    fill(tmp_path / "here", a_header())
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert len(TeacherCache(tmp_path / "there").names()) == 3
    assert _verify(tmp_path / "there").result["ok"]


def test_a_cache_without_identity_and_checksum_is_read_as_before(tmp_path):
    fill(tmp_path, a_header())
    path = tmp_path / HEADER
    values = json.loads(path.read_text())
    for key in ("checksum", "identity", "revision"):
        del values[key]
    path.write_text(json.dumps(values))
    assert len(TeacherCache(tmp_path).names()) == 3
