"""Inputs that claim more than they hold, or nest without end, are refused by name."""

import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from npy_bytes import npy_bytes
from PIL import Image

from distill3r_core.config import resolve
from distill3r_core.data.layouts import Refused, scan
from distill3r_core.errors import ConfigError, ImageError
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.depth import read_depth
from distill3r_core.io.images.record3d_depth import read_record3d
from distill3r_core.stages.train import TrainSettings
from distill3r_core.untrusted.yaml_text import read_yaml


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
    (tmp_path / "a.npy").write_bytes(npy_bytes(shape, b"1234", "<f4"))
    with pytest.raises(ImageError):
        read_depth(tmp_path / "a.npy", stored="npy32")


def test_depth_that_is_a_pipe_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ImageError, match="not a file"):
        read_depth(tmp_path / "a.npy", stored="npy32")


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
