"""Content that cannot be is refused where it enters, though every checksum is right."""

import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from cache_material import SIZE, a_header, fill, rgbd_manifest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from distill3r_core.cache.database import Database
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import read_manifest, write_manifest
from distill3r_core.data.manifest_views import read_view
from distill3r_core.errors import ImageError, NothingUsableError, WeightsError
from distill3r_core.io.images.depth import write_depth
from distill3r_core.models import build_student, load_student
from distill3r_core.models.checkpoint import HEADER, save_student
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.stages.cache import CacheSettings, build_cache


def _pose(change) -> tuple[float, ...]:
    pose = np.eye(4)
    change(pose)
    return tuple(pose.ravel().tolist())


POSES = {
    "not finite": _pose(lambda pose: pose.__setitem__((0, 3), np.nan)),
    "not finite ": _pose(lambda pose: pose.__setitem__((1, 1), np.inf)),
    "farther": _pose(lambda pose: pose.__setitem__((2, 3), 1e30)),
    "not a rotation": _pose(lambda pose: pose.__setitem__((slice(3), slice(3)), 2 * np.eye(3))),
    "not a rotation ": _pose(lambda pose: pose.__setitem__((0, 0), -1)),
    "row 0 0 0 1": _pose(lambda pose: pose.__setitem__((3, 0), 1)),
}
CAMERAS = {
    "focal": (-30.0, 0, 15, 0, 30, 10, 0, 0, 1),
    "zero": (30.0, 0, 15, 0, 0, 10, 0, 0, 1),
    "infinite": (float("inf"), 0, 15, 0, 30, 10, 0, 0, 1),
    "nan": (30.0, 0, float("nan"), 0, 30, 10, 0, 0, 1),
    "huge": (1e30, 0, 15, 0, 30, 10, 0, 0, 1),
    "row": (30.0, 0, 15, 0, 30, 10, 0, 0, 2),
}


@pytest.mark.parametrize("reason", POSES)
def test_a_pose_that_cannot_be_is_refused(tmp_path, reason) -> None:
    row = read_manifest(rgbd_manifest(tmp_path, scenes=1, samples=1)).rows[0]
    read_view(row, tmp_path)
    with pytest.raises(ImageError, match=reason.strip()):
        read_view(replace(row, pose=POSES[reason], content=""), tmp_path)


@pytest.mark.parametrize("name", CAMERAS)
def test_intrinsics_that_cannot_be_are_refused(tmp_path, name) -> None:
    row = read_manifest(rgbd_manifest(tmp_path, scenes=1, samples=1)).rows[0]
    with pytest.raises(ImageError, match="intrinsics"):
        read_view(replace(row, K=tuple(map(float, CAMERAS[name])), content=""), tmp_path)


def _settings(tmp_path) -> CacheSettings:
    return CacheSettings(
        manifest=tmp_path / "manifest.csv",
        output=tmp_path / "cache",
        teacher="depth",
        size="28x42",
    )


def test_samples_with_impossible_geometry_are_left_out_by_name_and_the_rest_goes_on(tmp_path):
    rows = read_manifest(rgbd_manifest(tmp_path, scenes=2, samples=1)).rows
    first = next(row for row in rows if row.scene_id == "scene0")
    changed = replace(first, pose=POSES["not a rotation"], content="")
    write_manifest(tmp_path / "manifest.csv", [changed if r is first else r for r in rows])
    report = build_cache(_settings(tmp_path))
    (failure,) = report.failed
    assert failure.item == "data/scene0/000"
    assert first.image_path in failure.reason
    assert "not a rotation" in failure.reason


def test_a_sample_without_a_valid_pixel_is_not_stored(tmp_path) -> None:
    rows = read_manifest(rgbd_manifest(tmp_path, scenes=1, samples=1)).rows
    for row in rows:
        write_depth(tmp_path / row.depth_path, np.zeros((row.H, row.W), np.float32), unit="m")
    write_manifest(tmp_path / "manifest.csv", [replace(row, content="") for row in rows])
    with pytest.raises(NothingUsableError, match="no pixel of its views is valid"):
        build_cache(_settings(tmp_path))


@pytest.fixture(scope="module")
def student_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "tiny.safetensors"
    student = build_student("tiny")
    save_student(path, student, StudentMetadata(preset="tiny", spec=student.spec, size=(28, 42)))
    return path


def _forged(path, text: str):
    forged = path.with_name("forged.safetensors")
    save_file(load_file(path), forged, metadata={HEADER: text})
    return forged


def _described(path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[HEADER])


def test_an_unchanged_description_is_read(student_file) -> None:
    load_student(_forged(student_file, json.dumps(_described(student_file))))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 5000, '{"spec": []}', '{"spec": {}, "schema": 1}']
)
def test_a_description_that_is_none_is_refused(student_file, text) -> None:
    with pytest.raises(WeightsError, match=r"forged\.safetensors"):
        load_student(_forged(student_file, text))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 3),
        ("schema", None),
        ("size", [0, 42]),
        ("size", [28, 10**9]),
        ("fit", {"size": [28, 10**9]}),
        ("fit", {"size": [28, 42], "resized": [-1, 42]}),
        ("fit", {"size": "large"}),
        ("step", "many"),
    ],
)
def test_a_description_with_a_value_that_cannot_be_is_refused(student_file, key, value) -> None:
    text = json.dumps(_described(student_file) | {key: value})
    with pytest.raises(WeightsError, match=r"forged\.safetensors"):
        load_student(_forged(student_file, text))


def test_weights_are_read_as_they_were_written(student_file) -> None:
    state = load_student(student_file).state_dict()
    assert all(torch.equal(state[name], value) for name, value in load_file(student_file).items())


def _sealed(key: bytes, body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body, zlib.crc32(key)))


def _entry(*, views: int = 2, size: tuple[int, int] = SIZE, kind: int = 8) -> bytes:
    return struct.pack("<IHHHHQQ", 0, views, *size, kind, 100, 100) + b"content-0"


FORGED = {  # by key: of the first of three samples, with right checksums
    "short entry": (b"ndata/scene/000", b"123"),
    "no views": (b"ndata/scene/000", _entry(views=0)),
    "views": (b"ndata/scene/000", _entry(views=60_000)),
    "huge": (b"ndata/scene/000", _entry(size=(65_535, 65_535))),
    "other size": (b"ndata/scene/000", _entry(size=(4096, 4096))),
    "kind": (b"ndata/scene/000", _entry(kind=64)),
    "detail": (b"d" + bytes(4), b"[1, 2]"),
    "nested detail": (b"d" + bytes(4), b"[" * 50_000),
    "pictures": (b"d" + bytes(4), b'{"pictures": [1, null]}'),
    "record": (b"t" + bytes(6), b"no record"),
}


def test_repair_goes_past_records_with_right_checksums_and_wrong_content(tmp_path, cli_inprocess):
    for name, (key, body) in FORGED.items():
        cache, header = tmp_path / name.replace(" ", "-"), a_header()
        fill(cache, header)
        database = Database(cache / "shard-0000")
        with database.writing() as transaction:
            transaction.put(key, _sealed(key, body) if key[:1] in b"nd" else body)
        database.close()
        status, _, err = cli_inprocess("cache", "verify", cache, cwd=tmp_path)
        assert status == 1, (name, err)
        assert "data/scene/000" in err, (name, err)
        status, _, err = cli_inprocess("cache", "verify", cache, "--repair", cwd=tmp_path)
        assert status == 0, (name, err)
        left = TeacherCache(cache)
        assert left.missing() == ["data/scene/000"], name
        assert len([left.read(sample) for sample in left.names()]) == 2
        fill(cache, header)  # as `cache --resume` makes what is missing
        assert cli_inprocess("cache", "verify", cache, cwd=tmp_path)[0] == 0, name
