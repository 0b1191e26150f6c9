"""What is done with a finished cache: verify and repair, merge, info."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cache_material import records

from distill3r_core.cache.database import DATA
from distill3r_core.cache.header import read_header, write_header
from distill3r_core.cache.shard import WriterLock
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import Manifest, read_manifest, write_manifest
from distill3r_core.errors import (
    CacheError,
    ConflictError,
)
from distill3r_core.stages.cache import build_cache, merge
from distill3r_core.stages.cache.inspect_cache import cache_info
from distill3r_core.stages.cache.merge import merge_caches
from distill3r_core.stages.cache.verify import VerifySettings, verify_cache


def break_record(output: Path, name: str) -> None:
    cache = TeacherCache(output)
    shard, entry = cache.place(name)
    record = bytes(shard.maps(entry, 0))
    data = shard.folder / DATA
    broken = bytearray(record)
    broken[len(record) // 2] ^= 16
    # Everywhere: small records have copies in pages that are no longer used.
    data.write_bytes(data.read_bytes().replace(record, broken))


def test_verify_finds_damage_and_repair_lets_resume_redo_exactly_that(settings):
    build_cache(settings)
    before = records(settings.output)
    check = VerifySettings(settings.output, manifest=settings.manifest, recompute=2)
    sound = verify_cache(check)
    assert sound.result["ok"]
    assert [entry["equal"] for entry in sound.result["recomputed"]] == [1.0, 1.0]
    break_record(settings.output, "data/scene0/001")
    found = verify_cache(replace(check, recompute=0))
    assert not found.result["ok"]
    assert "data/scene0/001" in found.result["damaged"][0]
    assert verify_cache(replace(check, recompute=0, repair=True)).result["ok"]
    assert build_cache(settings, resume=True).result["made"] == 1
    assert records(settings.output) == before
    assert verify_cache(check).result["ok"]


def test_one_flipped_bit_in_the_index_costs_one_sample_and_not_the_shard(settings):
    build_cache(settings)
    before = records(settings.output)
    data, name = settings.output / "shard-0000" / DATA, "data/scene0/001"
    content = TeacherCache(settings.output).entry(name).content.encode()
    bytes_ = data.read_bytes()
    at = bytes_.index(content, bytes_.index(b"n" + name.encode()))
    while at >= 0:  # older pages hold copies of the entry
        bytes_ = bytes_[:at] + bytes([bytes_[at] ^ 1]) + bytes_[at + 1 :]
        at = bytes_.find(content)
    data.write_bytes(bytes_)
    assert TeacherCache(settings.output).missing() == [name]
    check = VerifySettings(settings.output, manifest=settings.manifest)
    (found,) = verify_cache(check).result["damaged"]
    assert name in found
    assert verify_cache(replace(check, repair=True)).result["ok"]
    assert build_cache(settings, resume=True).result["made"] == 1
    assert records(settings.output) == before


def test_repair_leaves_a_broken_shard_alone_while_it_is_being_written(settings):
    build_cache(settings)
    data = settings.output / "shard-0000" / DATA
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    lock = WriterLock(data.parent)
    with pytest.raises(ConflictError, match="another process is writing"):
        verify_cache(VerifySettings(settings.output, repair=True))
    assert data.exists()
    lock.release()


def test_a_child_that_is_forked_and_ends_leaves_the_lock_to_its_parent(tmp_path):
    lock = WriterLock(tmp_path)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(ConflictError, match="another process is writing"):
        WriterLock(tmp_path)
    lock.release()
    WriterLock(tmp_path).release()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"color": "red"}, "color"),
        ({"teacher": None}, "teacher"),
        ({"size": None}, "size"),
        ({"size": [28]}, "size"),
        ({"fit": "squash"}, "fit"),
        ({"threshold": "high"}, "threshold"),
        ({"plan": None}, "plan"),
        ({"plan": [["data/scene0/000", "content"]]}, "plan"),
        ({"plan": [["data/scene0/000", 5, "train"]]}, "plan"),
    ],
)
def test_a_header_with_missing_unknown_or_wrong_values_is_named(settings, change, named):
    build_cache(settings)
    path = settings.output / "cache.json"
    values = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in values.items() if value}))
    with pytest.raises(CacheError, match=rf"cache\.json(?s:.*){named}"):
        TeacherCache(settings.output)


def test_verify_moves_a_cut_shard_aside_and_resume_makes_it_again(settings):
    build_cache(settings)
    before = records(settings.output)
    data = settings.output / "shard-0000" / DATA
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    check = VerifySettings(settings.output, manifest=settings.manifest)
    assert not verify_cache(check).result["ok"]
    assert verify_cache(replace(check, repair=True)).result["ok"]
    assert build_cache(settings, resume=True).result["made"] == 4
    assert records(settings.output) == before


def test_verify_always_computes_the_contents_of_pictures(settings):
    build_cache(settings)
    manifest = read_manifest(settings.manifest)
    rows = [replace(row, K=(row.K[0] + 1, *row.K[1:])) for row in manifest.rows[:1]]
    write_manifest(settings.manifest, [*rows, *manifest.rows[1:]])
    found = verify_cache(VerifySettings(settings.output, manifest=settings.manifest))
    assert found.result["changed"] == ["data/scene0/000"]
    assert not found.result["ok"]


def test_a_merge_holds_what_its_parts_hold(settings, tmp_path):
    build_cache(settings)
    manifest = Manifest(settings.manifest, read_manifest(settings.manifest).rows)
    parts = []
    for scene in ("scene0", "scene1"):
        write_manifest(settings.manifest, [row for row in manifest.rows if row.scene_id == scene])
        parts.append(tmp_path / scene)
        build_cache(replace(settings, output=parts[-1]))
    merged = merge_caches(parts, tmp_path / "merged")
    assert merged.result["finished"] == merged.result["planned"] == 4
    assert records(tmp_path / "merged") == records(settings.output)
    assert merge_caches(parts, tmp_path / "merged").result["copied"] == 0
    build_cache(replace(settings, output=tmp_path / "other", size="28x56"))
    with pytest.raises(ConflictError, match="size"):
        merge_caches([*parts, tmp_path / "other"], tmp_path / "wrong")


def test_records_of_two_formulas_of_confidence_are_never_mixed_or_relabeled(settings, tmp_path):
    build_cache(settings)
    header = read_header(settings.output)
    assert header.confidence  # of the synthetic teacher

    def merged(*formulas: str) -> str:
        parts = [tmp_path / f"{'-'.join(formulas)}-{index}" for index in range(len(formulas))]
        for part, formula in zip(parts, formulas, strict=True):
            shutil.copytree(settings.output, part)
            write_header(part, replace(header, confidence=formula))
        merge_caches(parts, tmp_path / f"all-{'-'.join(formulas)}")
        return read_header(tmp_path / f"all-{'-'.join(formulas)}").confidence

    assert merged("p", "p") == "p"
    assert merged("", "p") == merged("p", "") == ""
    for formulas in (("p", "q"), ("", "p", "q")):
        with pytest.raises(ConflictError, match=r"confidence: [pq] → [pq]"):
            merged(*formulas)

    write_header(settings.output, replace(header, confidence=""))
    build_cache(settings, resume=True)
    assert read_header(settings.output).confidence == ""
    write_header(settings.output, replace(header, confidence="another formula"))
    with pytest.raises(ConflictError, match="confidence: another formula"):
        build_cache(settings, resume=True)


@pytest.mark.parametrize("together", [1, 25_000, 1 << 24])
def test_a_merge_is_the_same_however_many_samples_are_committed_at_once(
    settings, tmp_path, monkeypatch, together
):
    build_cache(settings)
    monkeypatch.setattr(merge, "_COMMITTED", together)
    assert merge_caches([settings.output], tmp_path / "merged").result["copied"] == 4
    assert records(tmp_path / "merged") == records(settings.output)


def test_info_counts_and_draws(settings, tmp_path):
    build_cache(settings)
    report = cache_info(settings.output, picture=tmp_path / "maps.png")
    assert report.result["finished"] == 4
    assert report.result["views"] == 12
    assert 0 < report.result["ratio"] < 0.2
    assert [scene["samples"] for scene in report.result["scenes"]] == [2, 2]
    assert (tmp_path / "maps.png").stat().st_size > 1000
