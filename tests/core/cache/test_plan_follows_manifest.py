"""The manifest as it is now decides what a cache holds, whatever it held before."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cache_material import rgbd_manifest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import ManifestRow, read_manifest, write_manifest
from distill3r_core.errors import ConflictError, DiskFullError
from distill3r_core.runs.training_images import training_images
from distill3r_core.stages.cache import CacheSettings, build_cache

# What a scene of a manifest is: absent, or in a split, with or without a pose that moved.
_SCENES = st.tuples(
    *[st.sampled_from([None, ("train", 0.0), ("val", 0.0), ("train", 1.0), ("val", 1.0)])] * 3
).filter(any)
_FRAMES = 4  # of a scene
_CUTS = st.tuples(st.integers(1, _FRAMES), st.integers(1, 2))  # views of a sample, and its stride
_MANIFESTS = st.tuples(_SCENES, _CUTS)
_ALL = (("train", 0.0),) * 3


def _manifest_of(manifest, material: Path) -> list[ManifestRow]:
    scenes, cut = manifest
    rows = _cut(read_manifest(material).rows, *cut)
    found = []
    for number, scene in enumerate(scenes):
        if scene is None:
            continue
        split, moved = scene
        for row in rows:
            if row.scene_id == f"scene{number}":
                pose = (*row.pose[:7], row.pose[7] + moved, *row.pose[8:])
                changed = {"pose": pose, "content": ""} if moved else {}
                found.append(replace(row, split=split, **changed))
    return found


def _cut(rows: Sequence[ManifestRow], views: int, stride: int) -> list[ManifestRow]:
    """The rows in windows of so many views, each `stride` frames behind the one before it."""
    found = []
    for row in rows:
        frame = int(row.sample_id)
        starts = range(0, _FRAMES - views + 1, stride)
        members = [number for number, at in enumerate(starts) if at <= frame < at + views]
        found.append(replace(row, windows=tuple(members)))
    return found


def _facts(cache: Path) -> tuple[object, ...]:
    opened = TeacherCache(cache)
    planned = [(s.name, s.content, s.split) for s in opened.header.plan]
    return planned, opened.names("train"), opened.names("val"), training_images(opened)


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return rgbd_manifest(tmp_path_factory.mktemp("material"), scenes=3, samples=2, views=2)


@hypothesis_settings(
    max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(first=_MANIFESTS, second=_MANIFESTS)
@example(first=(_ALL, (2, 2)), second=((("train", 0.0), None, None), (2, 2)))
@example(first=(_ALL, (2, 2)), second=((("train", 0.0), ("val", 0.0), ("val", 0.0)), (2, 2)))
@example(
    first=((("val", 0.0),) * 3, (2, 2)), second=((("train", 0.0), ("train", 1.0), None), (2, 2))
)
@example(first=(_ALL, (2, 2)), second=(_ALL, (2, 1)))  # names stay, with other frames
@example(first=(_ALL, (3, 1)), second=(_ALL, (4, 1)))
@example(first=(_ALL, (1, 1)), second=(_ALL, (2, 2)))
def test_a_resumed_cache_is_planned_like_a_fresh_one(first, second, material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    manifest = material.with_name("changing.csv")
    resumed = CacheSettings(manifest=manifest, output=folder / "resumed", size="28x42")
    write_manifest(manifest, _manifest_of(first, material))
    build_cache(resumed, resume=True)
    write_manifest(manifest, _manifest_of(second, material))
    build_cache(resumed, resume=True)
    fresh = replace(resumed, output=folder / "fresh")
    build_cache(fresh)
    assert _facts(resumed.output) == _facts(fresh.output)


def test_a_scene_that_was_removed_is_no_longer_trained_on(settings):
    build_cache(settings)
    rows = read_manifest(settings.manifest).rows
    write_manifest(settings.manifest, [row for row in rows if row.scene_id == "scene0"])
    report = build_cache(settings, resume=True)
    assert report.notes == ["finished before: only its plan was brought up to date"]
    assert TeacherCache(settings.output).names() == ["data/scene0/000", "data/scene0/001"]


def test_a_scene_that_became_validation_is_no_longer_trained_on(settings):
    build_cache(settings)
    rows = read_manifest(settings.manifest).rows
    moved = [replace(row, split="val") if row.scene_id == "scene1" else row for row in rows]
    write_manifest(settings.manifest, moved)
    build_cache(settings)  # without --resume as well
    cache = TeacherCache(settings.output)
    assert cache.names("val") == ["data/scene1/000", "data/scene1/001"]
    assert cache.names("train") == ["data/scene0/000", "data/scene0/001"]


def test_a_dropped_scene_with_a_broken_image_leaves_nothing_missing(settings):
    (settings.manifest.parent / "images/scene1_004.png").write_bytes(b"broken")
    assert build_cache(settings).failed
    rows = read_manifest(settings.manifest).rows
    write_manifest(settings.manifest, [row for row in rows if row.scene_id == "scene0"])
    build_cache(settings, resume=True)
    assert TeacherCache(settings.output).missing() == []


def test_a_disk_that_is_too_small_does_not_keep_the_old_plan(settings, monkeypatch):
    build_cache(settings)
    rows = [row for row in read_manifest(settings.manifest).rows if row.scene_id == "scene1"]
    moved = [replace(row, content="", pose=(*row.pose[:7], 5.0, *row.pose[8:])) for row in rows]
    write_manifest(settings.manifest, moved)
    monkeypatch.setattr("distill3r_core.stages.cache.cache_report.free_bytes", lambda _: 0)
    with pytest.raises(DiskFullError, match="are free"):
        build_cache(settings, resume=True)
    assert TeacherCache(settings.output).names() == []


def test_a_dry_run_and_a_refused_run_leave_the_plan_as_it_is(settings):
    build_cache(settings)
    before = (settings.output / "cache.json").read_bytes()
    rows = read_manifest(settings.manifest).rows
    write_manifest(settings.manifest, [row for row in rows if row.scene_id == "scene0"])
    build_cache(settings, dry_run=True)
    with pytest.raises(ConflictError):
        build_cache(replace(settings, size="28x56"), resume=True)
    assert (settings.output / "cache.json").read_bytes() == before
    assert json.loads(before)["plan"]
