"""Checkpoints and caches that claim more than they hold, or ask for what no such file needs."""

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from npy_bytes import npy_bytes

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
from distill3r_core.config import validate
from distill3r_core.errors import ConfigError, DamageError, WeightsError
from distill3r_core.io.weights import read_pickled
from distill3r_core.models import load_student
from distill3r_core.untrusted.npy_header import read_npy_file


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


def test_a_whole_release_sample_is_read(tmp_path) -> None:
    assert not read_sample(_release(tmp_path)).masks[0, 0, :3].any()


@pytest.mark.parametrize("name", ["dtype", "bytearray", "array"])
def test_a_release_sample_with_a_forged_mask_is_refused(tmp_path, name) -> None:
    folder = _release(tmp_path)
    _with_member(folder, "masks.npy", npy_bytes((2,), FORGED[name]), zipfile.ZIP_DEFLATED)
    with pytest.raises(DamageError, match="consolidated"):
        read_sample(folder)


@pytest.mark.parametrize("end", [b"\x00", b"{", b"'", b"\xff"])
def test_a_header_of_an_array_that_does_not_parse_is_refused(tmp_path, end) -> None:
    # numpy tries a header that is no literal again as one of Python 2, and other errors come out.
    data = npy_bytes((2,), b"12345678", "<f4")
    (tmp_path / "a.npy").write_bytes(data.replace(b"(2,)", b"(2,)" + end, 1)[: len(data)])
    with pytest.raises(ValueError, match=r"header|array|literal|decode"):
        read_npy_file(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20, 3), (-1,)])
def test_an_array_that_claims_more_than_its_member_holds_is_refused(tmp_path, shape) -> None:
    folder = _release(tmp_path)
    _with_member(folder, "xyz_local.npy", npy_bytes(shape, b"12", "<f2"), zipfile.ZIP_DEFLATED)
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


def test_a_name_of_thousands_of_characters_is_quoted_cut() -> None:
    with pytest.raises(ConfigError) as raised:
        validate(CacheHeader, {"x" * 6000: 1}, source="cache.json")
    assert max(map(len, raised.value.message.splitlines())) < 300
