"""A packed `.r3d` is read as the folder that it unpacks to, and one that is forged is refused."""

import contextlib
import json
import struct
import zipfile

import numpy as np
import pytest
from trees import rejected, save_picture

from distill3r_core.data.layouts import LAYOUTS, PackedScene, detect_layout, scan
from distill3r_core.data.layouts.recordings.record3d_archive import unpack_record3d
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ImageError
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def write_recording(folder, count=4):
    for number in range(count):
        save_picture(folder / "rgbd" / f"{number}.jpg", number, (48, 64))
        depth = np.linspace(1, 2, 48, dtype="<f4") + number / 8
        (folder / "rgbd" / f"{number}.depth").write_bytes(depth.tobytes())
    content = {
        "w": 32, "h": 24, "dw": 8, "dh": 6, "fps": 30,
        "K": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1],
        "poses": [[0, 0, 0, 1, number, 2, 3] for number in range(count)],
    }  # fmt: skip
    (folder / "metadata").write_text(json.dumps(content))
    return folder


def pack(archive, folder, packing=zipfile.ZIP_DEFLATED, others=()):
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", packing) as members:
        for path in sorted(folder.rglob("*")):
            members.write(path, path.relative_to(folder).as_posix())
        for name, content in dict(others).items():
            members.writestr(name, content)
    return archive


def make(root, out):
    return build_manifest(ManifestSettings((root,), out, views=4, val_scenes=0.0), trust=True)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_gives_what_its_folder_gives(tmp_path, packing):
    folder = write_recording(tmp_path / "plain" / "phone" / "a" / "walk")
    pack(
        tmp_path / "packed" / "phone" / "a" / "walk.r3d",
        folder,
        packing,
        {"icon": b"", "x/y": b"1"},
    )
    assert detect_layout(tmp_path / "packed")[1] == "phone/a holds walk.r3d"
    make(tmp_path / "plain" / "phone", tmp_path / "one")
    report = make(tmp_path / "packed" / "phone", tmp_path / "two")
    assert report.result["datasets"][0]["layout"] == "record3d"
    assert (tmp_path / "one" / "manifest.csv").read_bytes() == (
        tmp_path / "two" / "manifest.csv"
    ).read_bytes()
    unpacked = tmp_path / "two" / "recordings" / "phone" / "a" / "walk"
    assert sorted(path.name for path in unpacked.iterdir()) == [".done.json", "metadata", "rgbd"]
    # What was unpacked is not unpacked again, until the archive changes.
    before = times(unpacked)
    make(tmp_path / "packed" / "phone", tmp_path / "two")
    assert times(unpacked) == before
    (folder / "rgbd" / "3.jpg").unlink()
    pack(tmp_path / "packed" / "phone" / "a" / "walk.r3d", folder, packing)
    make(tmp_path / "packed" / "phone", tmp_path / "two")
    assert len((tmp_path / "two" / "manifest.csv").read_text().splitlines()) == 1 + 3
    assert not (unpacked / "rgbd" / "3.jpg").exists()


def test_an_archive_beside_photographs_is_not_what_is_meant(tmp_path):
    folder = write_recording(tmp_path / "walk")
    pack(tmp_path / "photos" / "walk.r3d", folder)
    save_picture(tmp_path / "photos" / "a.jpg", 1)
    assert detect_layout(tmp_path / "photos")[0] is LAYOUTS["images"]


def test_an_archive_beside_its_own_folder_is_left_out_with_a_line(tmp_path):
    folder = write_recording(tmp_path / "phone" / "walk")
    pack(tmp_path / "phone" / "walk.r3d", folder)
    pack(tmp_path / "phone" / "other.r3d", folder)
    (tmp_path / "phone" / "other").mkdir()  # holds no recording
    make(tmp_path / "phone", tmp_path / "out")
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    assert len(rows) == 2 * 4 and {row.scene_id for row in rows} == {"phone/other", "walk"}
    reason = "the folder 'walk' beside it is this recording"
    assert rejected(tmp_path / "out") == {"walk.r3d": reason}


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"[" * 100_000, b"", b"[]", b"{}", b'{"archive": 1, "files": [[]]}', b"1e999"],
    ids=["encoding", "nesting", "empty", "list", "no-files", "list-of-lists", "number"],
)
def test_an_archive_is_unpacked_again_where_the_record_of_it_is_damaged(tmp_path, content):
    pack(tmp_path / "phone" / "walk.r3d", write_recording(tmp_path / "walk"))
    make(tmp_path / "phone", tmp_path / "out")
    rows = (tmp_path / "out" / "manifest.csv").read_bytes()
    record = tmp_path / "out" / "recordings" / "phone" / "phone" / "walk" / ".done.json"
    whole = record.read_bytes()
    record.write_bytes(content)
    make(tmp_path / "phone", tmp_path / "out")
    assert record.read_bytes() == whole
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == rows


@pytest.mark.parametrize("name", ["metadata", "rgbd/2.jpg", "rgbd/2.depth"])
def test_an_archive_is_unpacked_again_where_a_file_of_it_is_gone(tmp_path, name):
    pack(tmp_path / "phone" / "walk.r3d", write_recording(tmp_path / "walk"))
    make(tmp_path / "phone", tmp_path / "out")
    place = tmp_path / "out" / "recordings" / "phone" / "phone" / "walk"
    (place / name).unlink()
    report = make(tmp_path / "phone", tmp_path / "out")
    assert report.result["images"] == 4 and (place / name).is_file()


def test_a_dry_run_counts_archives_and_unpacks_none(tmp_path):
    pack(tmp_path / "phone" / "walk.r3d", write_recording(tmp_path / "walk"))
    settings = ManifestSettings((tmp_path / "phone",), tmp_path / "out")
    report = build_manifest(settings, dry_run=True)
    assert "phone: 1 archive is not counted (a dry run unpacks none)" in report.notes
    assert not report.failed  # samples will come of it
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_listed_and_the_others_are_read(tmp_path):
    folder = write_recording(tmp_path / "walk")
    pack(tmp_path / "phone" / "a.r3d", folder)
    path = pack(tmp_path / "phone" / "b.r3d", folder)
    path.write_bytes(path.read_bytes()[:-30])
    report = make(tmp_path / "phone", tmp_path / "out")
    assert report.result["images"] == 4
    assert list(rejected(tmp_path / "out")) == ["b.r3d"]


def test_no_name_leads_out_of_the_folder(tmp_path):
    folder = write_recording(tmp_path / "walk")
    names = ("../out.jpg", "/tmp/out.jpg", "rgbd/../../out.jpg", "rgbd/9.jpg/x", "rgbd/9.exe")
    pack(tmp_path / "a.r3d", folder, others=dict.fromkeys(names, b"1"))
    unpack_record3d(tmp_path / "a.r3d", tmp_path / "below" / "place")
    found = {path.relative_to(tmp_path / "below") for path in (tmp_path / "below").rglob("*.*")}
    assert {path.name for path in found} == {
        f"{n}.{end}" for n in range(4) for end in ("jpg", "depth")
    }
    assert not (tmp_path / "out.jpg").exists() and not (tmp_path / "below" / "out.jpg").exists()


@pytest.mark.parametrize(
    ("packing", "claimed", "reason"),
    [
        (zipfile.ZIP_DEFLATED, 30_000_000, "claims to unpack to 300"),
        (zipfile.ZIP_DEFLATED, 300_000_000, "claims 300000000 bytes"),
        (zipfile.ZIP_LZMA, None, "packed in an unusual way"),
    ],
    ids=["ratio", "size", "packing"],
)
def test_an_archive_that_claims_what_none_does_is_refused(tmp_path, packing, claimed, reason):
    path = pack(tmp_path / "a.r3d", write_recording(tmp_path / "walk"), packing)
    if claimed is not None:
        data = bytearray(path.read_bytes())
        first = data.index(b"PK\x01\x02")  # of the directory: that of `metadata`
        struct.pack_into("<I", data, first + 24, claimed)
        path.write_bytes(data)
    with pytest.raises(ImageError, match=reason):
        unpack_record3d(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_is_read_to_the_size_that_it_claims_and_no_further(tmp_path):
    path = pack(tmp_path / "a.r3d", write_recording(tmp_path / "walk"))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 7)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):  # seven bytes have another checksum
        unpack_record3d(path, tmp_path / "out")
    assert not (tmp_path / "out" / "metadata").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    path = pack(tmp_path / "a.r3d", write_recording(tmp_path / "walk"), others={"metadata": b"{}"})
    with pytest.raises(ImageError, match="two members of one name"):
        unpack_record3d(path, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"x" * 1000])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.r3d").write_bytes(content)
    with pytest.raises(ImageError, match=r"damaged|no recording"):
        unpack_record3d(tmp_path / "a.r3d", tmp_path / "out")


@pytest.mark.parametrize("at", range(0, 60, 3))
def test_a_changed_byte_ends_in_a_recording_or_in_a_reason(tmp_path, at):
    path = pack(tmp_path / "phone" / "a.r3d", write_recording(tmp_path / "walk", count=2))
    data = bytearray(path.read_bytes())
    for start in (at, len(data) // 2 + at, len(data) - 60 + at):
        data[start] ^= 0xFF
    path.write_bytes(bytes(data))
    (dataset,) = scan(tmp_path / "phone", "record3d")
    (packed,) = dataset.list_scenes()
    assert isinstance(packed, PackedScene)
    with contextlib.suppress(ImageError):  # nothing else is raised
        packed.unpack(tmp_path / "out")
