"""An image, a depth map or a video of a few kilobytes asks for little time and memory."""

import contextlib
import resource
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing.bounded import BoundedReader
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from distill3r_core.errors import ImageError
from distill3r_core.io.images import video
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.depth import read_codes, read_confidence, read_png16
from distill3r_core.io.images.depth_codecs import read_exr, read_h5
from distill3r_core.io.images.masks import read_mask

_BLANK = (4096, 4090)  # columns and rows: as many pixels as a photograph


@pytest.fixture(autouse=True)
def _bounded():
    """As no file of a few kilobytes may: neither 2 s of the CPU nor 200 MB more."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - start < 2
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} KiB"


@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [
        ("webp", "RGB", {"lossless": True}),
        ("jp2", "RGB", {}),
        ("avif", "RGB", {}),
        ("png", "1", {"transparency": 0}),
    ],
)
def test_a_blank_image_of_many_pixels_is_refused_by_its_header(tmp_path, suffix, mode, options):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    # Written small, and its header made large: to write a large one takes what it must not take.
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (80, 60)).save(path, **options)
    _claim(path, suffix)
    with pytest.raises(ImageError, match="claims 4096x4090 pixels in a few bytes"):
        read_image(path)


def _claim(path: Path, suffix: str) -> None:
    """Make the header of an image say that it is as large as `_BLANK`."""
    data, (columns, rows) = bytearray(path.read_bytes()), _BLANK
    if suffix == "png":
        data[16:24] = struct.pack(">II", columns, rows)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif suffix == "webp":
        at = data.index(b"VP8L") + 9
        (bits,) = struct.unpack_from("<I", data, at)
        size = (columns - 1) | (rows - 1) << 14
        struct.pack_into("<I", data, at, bits & ~((1 << 28) - 1) | size)
    elif suffix == "avif":
        at = data.index(b"ispe") + 8
        struct.pack_into(">II", data, at, columns, rows)
    else:
        at = data.index(b"ihdr") + 4
        struct.pack_into(">II", data, at, rows, columns)
        at = data.index(b"\xff\x51") + 6
        struct.pack_into(">IIIIII", data, at, columns, rows, 0, 0, columns, rows)
    path.write_bytes(data)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_blank_mask_of_many_pixels_is_read(tmp_path, mode):
    Image.new(mode, (3000, 2900), 1 if mode == "1" else 255).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", (2900, 3000)).all()


@pytest.mark.parametrize("read", [read_confidence, read_png16, read_image, read_codes])
def test_a_fax_of_many_pixels_is_refused_by_its_header(tmp_path, read):
    Image.new("1", (160, 110)).save(tmp_path / "a.tif", compression="group4")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        tag, kind = struct.unpack_from("<HH", data, entry)
        if tag in (256, 257):
            struct.pack_into("<H" if kind == 3 else "<I", data, entry + 8, 12_000)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match=r"in a few bytes|not a PNG"):
        read(tmp_path / "a.tif")


def _progressive(path: Path, side: int, scans: int) -> None:
    """A gray JPEG whose scans each say in a few bytes that nothing changes."""
    blocks, bits = (side // 8) ** 2, ""
    while blocks > 0:
        count = min(max(blocks, 1 << 14), (1 << 15) - 1)
        bits, blocks = f"{bits}0{count - (1 << 14):014b}", blocks - count
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    table = bytes([1] + [0] * 15)
    parts = [b"\xff\xd8\xff\xdb", struct.pack(">HB", 67, 0), bytes([1] * 64)]
    parts += [b"\xff\xc2", struct.pack(">HBHHB", 11, 8, side, side, 1), bytes([1, 0x11, 0])]
    for kind, symbol in ((0x00, 0x00), (0x10, 0xE0)):
        parts += [b"\xff\xc4", struct.pack(">HB", 20, kind), table, bytes([symbol])]
    for number in range(scans):
        heights = 0x01 if number == 0 else 0x10
        parts += [b"\xff\xda", struct.pack(">HB", 8, 1), bytes([1, 0, 1, 63, heights]), scan]
    path.write_bytes(b"".join(parts) + b"\xff\xd9")


@pytest.mark.parametrize(("side", "scans"), [(4096, 300), (4096, 65), (64, 2000)])
def test_a_jpeg_of_many_scans_is_refused(tmp_path, side, scans):
    _progressive(tmp_path / "a.jpg", side, scans)
    with pytest.raises(ImageError, match=f"JPEG of {scans} scans"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "between",
    [b"\xff\xfe\x00\x02\x00", b"\xff\xd0", b"\xff\x01", b"\xff\xff", b"junk", b"\xff\x00"],
    ids=["comment", "restart", "temporary", "padding", "junk", "data"],
)
def test_scans_are_counted_past_whatever_the_decoder_passes_over(tmp_path, between):
    _progressive(tmp_path / "a.jpg", 64, 100)
    data = (tmp_path / "a.jpg").read_bytes()
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 1)  # before the second scan
    (tmp_path / "a.jpg").write_bytes(data[:at] + between + data[at:])
    with pytest.raises(ImageError, match="JPEG of 100 scans"):
        read_image(tmp_path / "a.jpg")


def test_progressive_photographs_are_read_whatever_follows_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 200
    Image.fromarray(pixels).save(tmp_path / "a.jpg", progressive=True, exif=exif)
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\xff\xda" * 500)  # as a video behind a photograph may have
    assert read_image(tmp_path / "a.jpg").pixels.shape == (96, 128, 3)
    _progressive(tmp_path / "b.jpg", 64, 60)
    assert read_image(tmp_path / "b.jpg").pixels.shape == (64, 64, 3)


def test_an_hdf5_array_that_is_not_in_the_file_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("depth", shape=(16_384, 16_383), chunks=(128, 128), dtype="f4")
    with pytest.raises(ImageError, match="in a few bytes"):
        read_h5(path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["depth"] = np.ones((6, 8), np.float32)
    assert read_h5(tmp_path / "other.h5").shape == (6, 8)
    (tmp_path / "raw").write_bytes(bytes(192))
    with h5py.File(path, "w") as file:
        file.create_dataset("depth", (6, 8), "f4", external=[(str(tmp_path / "raw"), 0, 192)])
    with pytest.raises(ImageError, match="in other files"):
        read_h5(path)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((6, 8), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "depth", (6, 8))
        file.create_virtual_dataset("depth", layout)
    with pytest.raises(ImageError, match="in other files"):
        read_h5(path)
    with h5py.File(path, "w") as file:
        file["depth"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "depth")
    with pytest.raises(ImageError, match="no two-dimensional array"):
        read_h5(path)


def test_packed_depth_of_more_pixels_than_any_camera_has_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    zeros = zlib.compress(bytes(4_000_000), 9)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset(
            "depth", (20_000, 20_000), "f4", chunks=(1000, 1000), compression="gzip"
        )
        for number in range(400):
            stored.id.write_direct_chunk((number // 20 * 1000, number % 20 * 1000), zeros)
    with pytest.raises(ImageError, match="too large"):
        read_h5(tmp_path / "a.h5")
    OpenEXR = pytest.importorskip("OpenEXR")
    head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    path = tmp_path / "a.exr"
    OpenEXR.File(head, {"Y": np.ones((16, 16), np.float32)}).write(str(path))
    data = bytearray(path.read_bytes())
    at = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    struct.pack_into("<4i", data, at, 0, 0, 19_999, 19_999)
    path.write_bytes(data + bytes(1_000_000))
    with pytest.raises(ImageError, match="depth of 20000x20000 pixels is too large"):
        read_exr(path)


@pytest.mark.parametrize("side", [16_000, 100_000, 2**31 - 2])
def test_an_exr_is_refused_by_its_header_and_prints_nothing(tmp_path, side, capfd):
    OpenEXR = pytest.importorskip("OpenEXR")
    head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    path = tmp_path / "a.exr"
    OpenEXR.File(head, {"Y": np.ones((16, 16), np.float32)}).write(str(path))
    assert read_exr(path).shape == (16, 16)
    data = bytearray(path.read_bytes())
    at = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    struct.pack_into("<4i", data, at, 0, 0, side, side)
    path.write_bytes(data)
    capfd.readouterr()
    with pytest.raises(ImageError, match=r"in a few bytes|cannot be read"):
        read_exr(path)
    struct.pack_into("<4i", data, at, 0, 0, 63, 63)
    path.write_bytes(data)
    with pytest.raises(ImageError):
        read_exr(path)
    assert not capfd.readouterr().out  # where results go


def test_a_video_of_a_few_bytes_has_few_frames(tmp_path):
    av = pytest.importorskip("av")
    if "libx264" not in av.codecs_available:
        pytest.skip("this PyAV encodes no H.264")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": "1000"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        blank = av.VideoFrame.from_ndarray(np.zeros((1620, 1920), np.uint8), format="yuv420p")
        for number in range(80):
            blank.pts = number
            container.mux(stream.encode(blank))
        container.mux(stream.encode(None))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(ImageError, match=r"more than 150 million pixels in \d+ bytes"):
        for _ in video.read_frames(path, fps=2.0):
            pass


def test_a_video_that_hardly_moves_is_read_where_it_is_no_file_of_a_few_bytes(
    tmp_path, monkeypatch
):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 160, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    monkeypatch.setattr(video, "_FEW_BYTES_TOTAL", 10 * 160 * 96)
    with pytest.raises(ImageError, match="million pixels"):
        list(video.read_frames(tmp_path / "a.mp4", fps=None))
    monkeypatch.setattr(video, "_FEW_BYTES_FILE", (tmp_path / "a.mp4").stat().st_size)
    assert len(list(video.read_frames(tmp_path / "a.mp4", fps=None))) == 20


def test_a_video_of_a_few_bytes_has_no_frame_of_many_pixels(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 160, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(list(video.read_frames(tmp_path / "a.mp4", fps=None))) == 3
    monkeypatch.setattr(video, "_FEW_BYTES", 10_000)
    monkeypatch.setattr(video, "_PER_BYTE", 1)
    with pytest.raises(ImageError, match="not a video, or damaged"):
        list(video.read_frames(tmp_path / "a.mp4", fps=None))


@pytest.mark.parametrize("length", [1 << 28, (1 << 31) - 1, (1 << 32) - 1])
@pytest.mark.parametrize("kind", ["color", "16-bit depth", "metadata"])
def test_a_png_that_claims_gigabytes_takes_none(tmp_path, kind, length):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stored = pixels[..., 0].astype(np.uint16) * 256 if kind == "16-bit depth" else pixels
    info = PngInfo()
    info.add_text("Comment", "a" * 100)
    Image.fromarray(stored).save(tmp_path / "a.png", pnginfo=info)
    data = bytearray((tmp_path / "a.png").read_bytes())
    at = data.index(b"tEXt" if kind == "metadata" else b"IDAT") - 4
    data[at : at + 4] = struct.pack(">I", length)
    (tmp_path / "a.png").write_bytes(data)
    read = read_png16 if kind == "16-bit depth" else read_image
    with contextlib.closing(BoundedReader(lambda folder: read(folder / "a.png"), tmp_path)) as one:
        outcome = one()
    assert outcome.documented, outcome
