"""Files that claim more than they hold, or ask for what no such file needs, are refused by name."""

import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from PIL import Image

from distill3r_core.cache.header import CacheHeader
from distill3r_core.cache.maps.maps_decoder import MapsDecoder
from distill3r_core.cache.maps.maps_layout import MAGIC, Kind
from distill3r_core.cache.original.original_format import (
    ARRAYS,
    VIEWS,
    OriginalSample,
    read_sample,
    write_sample,
)
from distill3r_core.cache.packed_record import Packer, RecordError, Section, Unpacker
from distill3r_core.config import resolve, validate
from distill3r_core.data.layouts import Refused, scan
from distill3r_core.errors import ConfigError, DamageError, ImageError, WeightsError
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.depth import read_depth
from distill3r_core.io.images.record3d_depth import read_record3d
from distill3r_core.io.weights import read_pickled
from distill3r_core.models import load_student
from distill3r_core.stages.train import TrainSettings
from distill3r_core.untrusted.npy_header import read_npy_file
from distill3r_core.untrusted.yaml_text import read_yaml

SECONDS = 2.0  # of the CPU


@pytest.fixture(autouse=True)
def _bounded():
    """Neither long nor large, whatever a test reads."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < SECONDS
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} KiB"


@pytest.fixture(scope="module")
def hostile(data_dir: Path) -> Path:
    return data_dir / "hostile"


class _Call:
    """Pickled as a call of a function with arguments."""

    def __init__(self, function, *arguments, state=None) -> None:
        self._reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self._reduced


def _checkpoint(path: Path, data: bytes) -> Path:
    """A checkpoint of torch with another pickle in it."""
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)
    return path


def _nested(depth: int) -> bytes:
    return b"\x80\x02)" + b"\x85" * depth + b"."


FORGED = {
    "bytearray": pickle.dumps(_Call(bytearray, 1 << 33), 2),
    "array": pickle.dumps(_Call(np._core.multiarray._reconstruct, np.ndarray, (1 << 33,), b"b"), 2),
    "dtype": pickle.dumps(
        _Call(np.dtype, "i8", False, True, state=(3, "|", None, None, None, -1, -1, 63)), 2
    ),
    "fields": pickle.dumps(
        _Call(np.dtype, "V8", False, True, state=(3, "|", None, ("a",), {"a": 1}, 8, 1, 16)), 2
    ),
    "depth": _nested(5000),
    "shape": pickle.dumps(_Call(torch._utils._rebuild_tensor_v2, None, 0, (1 << 20, 1 << 20)), 2),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_checkpoint_that_asks_for_more_than_it_holds_is_refused(tmp_path, name) -> None:
    path = _checkpoint(tmp_path / "a.ckpt", FORGED[name])
    with pytest.raises(WeightsError, match=r"a\.ckpt") as raised:
        read_pickled(path)
    assert len(raised.value.message) < 500


@pytest.mark.parametrize("legacy", [True, False])
def test_tensors_and_plain_data_of_a_checkpoint_are_read_as_before(tmp_path, legacy) -> None:
    content = {
        "state": OrderedDict(a=torch.arange(6.0).view(2, 3), b=torch.nn.Parameter(torch.ones(2))),
        "args": Namespace(rate=np.float64(3.5), steps=np.arange(3), name="x", big=10**30),
        "nested": [(1, None, True), {"set": 1.5}],
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    read = read_pickled(tmp_path / "a.pt")
    assert torch.equal(read["state"]["a"], content["state"]["a"])
    assert torch.equal(read["state"]["b"], content["state"]["b"])
    assert vars(read["args"])["rate"] == 3.5 and vars(read["args"])["big"] == 10**30
    assert read["args"].steps.tolist() == [0, 1, 2]
    assert read["nested"] == content["nested"]


def test_the_hostile_checkpoints_are_refused(hostile) -> None:
    paths = sorted((hostile / "checkpoints").iterdir())
    assert paths
    for path in paths:
        with pytest.raises(WeightsError) as raised:
            load_student(path)
        assert len(raised.value.message) < 500


def _release(folder: Path) -> Path:
    maps = np.ones((2, 8, 9, 3), np.float16)
    masks = np.ones((2, 8, 9), bool)
    masks[0, 0, :3] = False
    masks[1, 4, 4] = False
    masks[1, 6, 4] = False
    plane = maps[..., 0]
    write_sample(folder, OriginalSample(maps, maps, plane, plane, masks, {}))
    return folder


def _with_member(folder: Path, name: str, content: bytes, packing: int) -> None:
    path = folder / ARRAYS
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", packing) as archive:
        for member, data in (members | {name: content}).items():
            archive.writestr(member, data)


def _npy(shape: tuple[int, ...], data: bytes, code: str = "|O") -> bytes:
    head = str({"descr": code, "fortran_order": False, "shape": shape})
    text = head.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def test_a_whole_release_sample_is_read(tmp_path) -> None:
    assert not read_sample(_release(tmp_path)).masks[0, 0, :3].any()


@pytest.mark.parametrize("name", ["dtype", "bytearray", "array"])
def test_a_release_sample_with_a_forged_mask_is_refused(tmp_path, name) -> None:
    folder = _release(tmp_path)
    _with_member(folder, "masks.npy", _npy((2,), FORGED[name]), zipfile.ZIP_DEFLATED)
    with pytest.raises(DamageError, match="consolidated"):
        read_sample(folder)


@pytest.mark.parametrize("end", [b"\x00", b"{", b"'", b"\xff"])
def test_a_header_of_an_array_that_does_not_parse_is_refused(tmp_path, end) -> None:
    # numpy tries a header that is no literal again as one of Python 2, and other errors come out.
    data = _npy((2,), b"12345678", "<f4")
    (tmp_path / "a.npy").write_bytes(data.replace(b"(2,)", b"(2,)" + end, 1)[: len(data)])
    with pytest.raises(ValueError, match=r"header|array|literal|decode"):
        read_npy_file(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20, 3), (-1,)])
def test_an_array_that_claims_more_than_its_member_holds_is_refused(tmp_path, shape) -> None:
    folder = _release(tmp_path)
    _with_member(folder, "xyz_local.npy", _npy(shape, b"12", "<f2"), zipfile.ZIP_DEFLATED)
    with pytest.raises(DamageError, match="consolidated"):
        read_sample(folder)


@pytest.fixture(scope="module")
def foreign_packing(tmp_path_factory) -> Path:
    """A sample with a packed member of 100 MB; made before a test's time is counted."""
    folder = _release(tmp_path_factory.mktemp("packing"))
    _with_member(folder, "conf_local.npy", b"\0" * 100_000_000, zipfile.ZIP_BZIP2)
    return folder


def test_a_member_in_a_packing_that_numpy_does_not_use_is_refused(foreign_packing) -> None:
    folder = foreign_packing
    with pytest.raises(DamageError, match="packed in a way"):
        read_sample(folder)


def test_a_directory_of_members_at_odds_with_the_file_is_quoted_cut(tmp_path) -> None:
    folder = _release(tmp_path)
    data = bytearray((folder / ARRAYS).read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 28 : at + 30] = struct.pack("<H", 300)  # the length of the first name
    (folder / ARRAYS).write_bytes(bytes(data))
    with pytest.raises(DamageError) as raised:
        read_sample(folder)
    assert len(raised.value.message) < 500


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read(tmp_path, version) -> None:
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<I", 3 << 30)
    (tmp_path / "a.npy").write_bytes(head + bytes(100))
    with pytest.raises(ValueError, match="claims 3221225472 bytes"):
        read_npy_file(tmp_path / "a.npy")


def test_a_header_of_thousands_of_characters_is_quoted_cut(tmp_path) -> None:
    head = ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), " + "x" * 8000).encode()
    text = head + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    with pytest.raises(ValueError, match="cannot be parsed") as raised:
        read_npy_file(tmp_path / "a.npy")
    assert len(str(raised.value)) < 400


def test_the_hostile_release_cache_is_refused_not_followed(hostile) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from distill3r_core.cache.original.original_format import read_sample\n"
        "from distill3r_core.errors import DamageError\n"
        "try: read_sample(Path(sys.argv[1]))\n"
        "except DamageError: sys.exit(7)"
    )
    folder = next((hostile / "import_pointer").rglob(VIEWS)).parent
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, timeout=120)
    assert done.returncode == 7


def _bomb(width: int, levels: int) -> str:
    lines = ["l0: &l0 [" + ",".join(["x"] * width) + "]"]
    lines += [f"l{n}: &l{n} [" + ",".join([f"*l{n - 1}"] * width) + "]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        _bomb(9, 9),
        _bomb(2, 40),
        "a: &a {x: 1}\nb: &b {<<: [" + "*a," * 400 + "*a]}\nc: {<<: [" + "*b," * 400 + "*b]}",
        "a: &a [*a]",
        "[" * 5000,
        "{" * 5000,
        "- " * 5000,
        "x: " + "y" * (1 << 21),
    ],
)
def test_yaml_that_expands_or_nests_without_bound_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"expand|itself|deeply|characters"):
        read_yaml(text)


def test_anchors_of_a_sane_document_are_read() -> None:
    assert read_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


def test_the_hostile_config_is_refused_by_name(hostile) -> None:
    with pytest.raises(ConfigError, match=r"bomb\.yaml: its aliases expand"):
        resolve(TrainSettings, section="train", config=str(hostile / "bomb.yaml"))


def _png(path: Path, width: int, height: int, depth: int = 1) -> Path:
    """A PNG of one color whose rows are made of one compressed stream."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    packer = zlib.compressobj(9)
    row = b"\0" + bytes((width * depth + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    whole = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)
    return path


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [(100_000_000, 1, "too small"), (1, 1_000_000, "too small"), (10_000, 10_000, "few bytes")],
)
def test_an_image_is_refused_by_its_header(tmp_path, width, height, reason) -> None:
    path = _png(tmp_path / "a.png", width, height)
    with pytest.raises(ImageError, match=reason):
        read_image(path)


def test_an_image_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("distill3r_core.io.images.decode.available_memory", lambda: 10**8)
    path = tmp_path / "a.png"
    path.write_bytes(_png(path, 5000, 5000).read_bytes() + bytes(100_000))
    with pytest.raises(ImageError, match=r"5000x5000 pixels; .* 0\.1 GB are free"):
        read_image(path)
    Image.new("RGB", (64, 64)).save(path)  # a small one is read whatever is free
    assert read_image(path).pixels.shape == (64, 64, 3)


def test_the_hostile_image_is_refused_by_its_header(hostile) -> None:
    with pytest.raises(ImageError, match="too small: 178956969x1"):
        read_image(hostile / "pictures" / "thin.png")


def test_the_pages_of_a_tiff_are_not_counted(tmp_path) -> None:
    pages = [Image.new("L", (16, 16))] * 3
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "b.tif")
    assert read_image(tmp_path / "a.tif").notes == ("the first of several pages",)
    assert read_image(tmp_path / "b.tif").notes == ()


@pytest.mark.parametrize("shape", [(1 << 20, 1 << 20), (1 << 62, 4), (3, 5)])
def test_depth_that_claims_more_than_its_file_holds_is_refused(tmp_path, shape) -> None:
    (tmp_path / "a.npy").write_bytes(_npy(shape, b"1234", "<f4"))
    with pytest.raises(ImageError):
        read_depth(tmp_path / "a.npy", stored="npy32")


def test_depth_that_is_a_pipe_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ImageError, match="not a file"):
        read_depth(tmp_path / "a.npy", stored="npy32")


SHAPE = (4, 4, 6)  # planes, rows, columns of a record that shares its confidence


def _maps_record(**sections: bytes) -> memoryview:
    codes = {"residuals": 1, "exceptions": 2, "transform": 3, "mask": 6}
    contents = {"residuals": bytes(96), "transform": np.eye(3, 4, dtype="<f4").tobytes()} | sections
    parts = [Section(codes[name], content) for name, content in contents.items()]
    return memoryview(Packer().build(MAGIC, parts, flags=int(Kind.SHARED), shape=SHAPE))


def _decode(record: memoryview) -> None:
    MapsDecoder(Unpacker()).decode(
        record, np.empty((5, *SHAPE[1:]), np.uint16), np.empty(SHAPE[1:], np.uint8)
    )


def test_a_made_record_is_read() -> None:
    _decode(_maps_record(mask=np.array([3, 21], "<u4").tobytes()))


@pytest.mark.parametrize(
    "sections",
    [
        {"mask": np.array([0, 1 << 31], "<u4").tobytes()},
        {"mask": np.array([3, 20], "<u4").tobytes()},
        {"mask": b"123"},
        {"residuals": bytes(95)},
        {"residuals": bytes(100_000_000)},
        {"exceptions": b"\xff" * 6},
        {"exceptions": b"12345"},
        {"transform": np.full((3, 4), np.nan, "<f4").tobytes()},
        {"transform": bytes(44)},
    ],
)
def test_a_record_with_right_checksums_and_wrong_content_is_refused(sections) -> None:
    with pytest.raises(RecordError):
        _decode(_maps_record(**sections))


def test_a_section_that_unpacks_to_more_than_its_table_says_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(200_000_000))
    record = Unpacker().parse(_maps_record(), MAGIC)
    forged = type(record)(
        record.flags, record.height, record.width, record.planes, {1: (memoryview(frame), True, 96)}
    )
    with pytest.raises(RecordError, match="claims 200000000 bytes"):
        Unpacker().content(forged, 1)


def test_json_beside_the_arrays_is_an_object(tmp_path) -> None:
    folder = _release(tmp_path)
    (folder / VIEWS).write_text(json.dumps([1]))
    with pytest.raises(DamageError, match="JSON object"):
        read_sample(folder)


def _damaged_camera(path: Path, damage: str) -> None:
    """A camera file of StereoLunar whose first array is there and cannot be read."""
    np.savez_compressed(path, intrinsics=np.eye(3), cam2world=np.eye(4))
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    if damage == "stream":
        names, extra = struct.unpack_from("<HH", data, 26)
        start = 30 + names + extra
        data[start : start + 8] = b"\xff" * 8
    elif damage == "encrypted":
        data[6] |= 1
        data[directory + 8] |= 1
    else:
        method = {"method": 99, "lzma": zipfile.ZIP_LZMA}[damage]
        struct.pack_into("<H", data, 8, method)
        struct.pack_into("<H", data, directory + 10, method)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["stream", "encrypted", "method", "lzma"])
def test_a_camera_whose_arrays_cannot_be_unpacked_is_refused_by_name(tmp_path, damage) -> None:
    folder = tmp_path / "part" / "scene"
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "im_00000.jpg")
    _damaged_camera(folder / "im_00000.npz", damage)
    (dataset,) = scan(tmp_path, "stereolunar")
    (refused,) = [item for item in dataset.list_scenes() if isinstance(item, Refused)]
    assert refused.path.name == "im_00000.jpg"
    assert "im_00000.npz is damaged" in refused.reason


def test_a_recording_of_infinite_size_is_refused_by_name(tmp_path) -> None:
    folder = tmp_path / "walk"
    (folder / "rgbd").mkdir(parents=True)
    metadata = {"w": 4, "K": [9, 0, 0, 0, 9, 0, 2, 2, 1]}
    text = json.dumps(metadata)[:-1] + ', "h": 1e999, "dh": 1e999}'
    (folder / "metadata").write_text(text)
    (dataset,) = scan(tmp_path, "record3d")
    (refused,) = dataset.list_scenes()
    assert refused.path.name == "metadata" and "damaged" in refused.reason
    with pytest.raises(ImageError, match="metadata is damaged"):
        read_record3d(folder / "rgbd" / "0.depth")


def test_a_name_of_thousands_of_characters_is_quoted_cut() -> None:
    with pytest.raises(ConfigError) as raised:
        validate(CacheHeader, {"x" * 6000: 1}, source="cache.json")
    assert max(map(len, raised.value.message.splitlines())) < 300
