"""Readers of depth files, on files written by hand."""

import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from distill3r_core.data.frame_reader import read_stored_depth, resized_to
from distill3r_core.data.layouts import DepthFile
from distill3r_core.errors import ImageError
from distill3r_core.io.images.depth_codecs import DEPTH_CODECS

DEPTH = np.array([[1.0, 2.5, 0.0], [4.0, np.inf, 6.0]], np.float32)


def test_the_bits_of_float16_in_a_png(tmp_path) -> None:
    Image.fromarray(DEPTH.astype(np.float16).view(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(DEPTH_CODECS["float16-png"](tmp_path / "a.png"), DEPTH)


@pytest.mark.parametrize(("scale", "order"), [("-1", "<f4"), ("1.0", ">f4")])
def test_a_pfm_has_its_rows_from_the_bottom_up(tmp_path, scale, order) -> None:
    path = tmp_path / "a.pfm"
    rows = DEPTH[1].astype(order).tobytes() + DEPTH[0].astype(order).tobytes()
    path.write_bytes(f"Pf\n3 2\n{scale}\n".encode() + rows)
    np.testing.assert_array_equal(DEPTH_CODECS["pfm"](path), DEPTH)


@pytest.mark.parametrize(
    "content",
    [b"", b"PF\n3 2\n-1\n", b"Pf\n3 2\n-1\n1234", b"Pf\n999999 999999\n-1\n", b"\xff" * 9],
)
def test_a_damaged_pfm_is_refused(tmp_path, content) -> None:
    (tmp_path / "a.pfm").write_bytes(content)
    with pytest.raises(ImageError):
        DEPTH_CODECS["pfm"](tmp_path / "a.pfm")


def test_arrays_of_numbers(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.array([[7, 0]], np.uint16))
    assert DEPTH_CODECS["array"](tmp_path / "a.npy").tolist() == [[7, 0]]
    for wrong in (np.zeros(3), np.array([["a"]]), np.zeros((1, 1), complex)):
        np.save(tmp_path / "b.npy", wrong)
        with pytest.raises(ImageError):
            DEPTH_CODECS["array"](tmp_path / "b.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_gives_its_only_array_or_the_one_called_depth(tmp_path, save) -> None:
    save(tmp_path / "one.npz", DEPTH)  # numpy calls it arr_0
    save(tmp_path / "two.npz", valid=DEPTH > 0, depth=np.asfortranarray(DEPTH))
    for name in ("one", "two"):
        np.testing.assert_array_equal(DEPTH_CODECS["npz"](tmp_path / f"{name}.npz"), DEPTH)
    save(tmp_path / "whole.npz", depth=np.array([[7, 0]], np.uint16))
    assert DEPTH_CODECS["npz"](tmp_path / "whole.npz").tolist() == [[7, 0]]


def npz(*arrays: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in arrays:
            archive.writestr(name, content)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


_BOMB = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4096, 65536)}") + bytes(1000)
_NO_TYPE = npy_header("{'descr': (), 'fortran_order': False, 'shape': (1, 2)}") + bytes(8)
_OF_DEPTH = npy(DEPTH)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read"),
        (npz(), "0 arrays"),
        (npz(("a.npy", _OF_DEPTH), ("b.npy", _OF_DEPTH)), "2 arrays, and none of them is 'depth'"),
        (npz(("a.npy", npy(DEPTH[0]))), "not a two-dimensional array"),
        (npz(("a.npy", npy(DEPTH > 0))), "not a two-dimensional array"),
        (npz(("a.npy", npy(DEPTH.astype(complex)))), "not a two-dimensional array"),
        (npz(("a.npy", npy(np.array([[None]])))), "not a two-dimensional array"),
        (npz(("a.npy", _BOMB)), "whose shape needs"),
        (npz(("a.npy", _OF_DEPTH[:-1])), "whose shape needs"),
        (npz(("a.npy", _NO_TYPE)), "cannot be parsed"),
        (npz(("a.npy", _OF_DEPTH), packing=zipfile.ZIP_LZMA), "numpy does not use"),
        (npz(("a.npy", _OF_DEPTH), packing=0).replace(_OF_DEPTH[-4:], b"1234"), "Bad CRC"),
    ],
)
def test_a_damaged_npz_is_refused(tmp_path, content, says) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ImageError, match=says):
        DEPTH_CODECS["npz"](tmp_path / "a.npz")


def test_an_npz_that_claims_more_than_its_bytes_can_mean_is_not_unpacked(tmp_path) -> None:
    path = tmp_path / "a.npz"
    size = len(npy(np.zeros((4096, 4096), np.float32)))
    content = bytearray(npz(("a.npy", _OF_DEPTH)))
    # The size of the unpacked array in the archive's directory, which is what is believed.
    place = content.index(b"PK\1\2") + 24
    content[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"a has {size} bytes"):
        DEPTH_CODECS["npz"](path)


def test_depth_maps_of_colmap(tmp_path) -> None:
    path = tmp_path / "a.jpg.geometric.bin"
    path.write_bytes(b"3&2&1&" + struct.pack("<6f", *DEPTH.ravel()))
    np.testing.assert_array_equal(DEPTH_CODECS["colmap"](path), DEPTH)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"3&2&1&",
        b"3&2&3&" + bytes(72),  # normals
        b"2&3&1&" + bytes(20),
        b"0&0&1&",
        b"65537&1&1&" + bytes(4 * 65537),
        b"1234567&1&1&",
    ],
)
def test_a_damaged_depth_map_of_colmap_is_refused(tmp_path, content) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(ImageError, match=r"is not a map|has \d+ bytes"):
        DEPTH_CODECS["colmap"](tmp_path / "a.bin")


def test_hdf5_and_exr_are_read_or_their_extra_is_named(tmp_path) -> None:
    for name in ("h5", "exr"):
        with pytest.raises(ImageError, match=r"extra|cannot be read"):
            DEPTH_CODECS[name](tmp_path / "missing")


def test_hdf5(tmp_path) -> None:
    h5py = pytest.importorskip("h5py", reason="extra datasets")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["depth"] = DEPTH
    np.testing.assert_array_equal(DEPTH_CODECS["h5"](tmp_path / "a.h5"), DEPTH)


def test_exr(tmp_path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="extra datasets")
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    exr.File(header, {"Y": DEPTH.astype(np.float16)}).write(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(DEPTH_CODECS["exr"](tmp_path / "a.exr"), DEPTH)


def test_depth_counts_where_its_confidence_says_so(tmp_path) -> None:
    Image.fromarray(np.array([[1000, 2000, 3000]], np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "c.png")
    file = DepthFile(tmp_path / "a.png", valid=tmp_path / "c.png", min_valid=2)
    assert read_stored_depth(file).tolist() == [[0, 0, 3]]
    with pytest.raises(ImageError, match="missing"):
        read_stored_depth(DepthFile(tmp_path / "a.png", valid=tmp_path / "none.png"))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "d.png")
    with pytest.raises(ImageError, match="size"):
        read_stored_depth(DepthFile(tmp_path / "a.png", valid=tmp_path / "d.png"))


def test_smaller_depth_is_enlarged_by_the_nearest_pixel() -> None:
    depth = np.array([[1, 2], [3, 4]], np.float32)
    np.testing.assert_array_equal(
        resized_to(depth, (4, 4)), np.kron(depth, np.ones((2, 2), np.float32))
    )
    # Worked by hand: of 3 columns the centers lie at 1/3, 1 and 5/3 columns of two.
    assert resized_to(depth, (3, 3))[0].tolist() == [1, 2, 2]
    with pytest.raises(ImageError, match="another shape"):
        resized_to(depth, (4, 5))
