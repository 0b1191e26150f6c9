"""Depth comes back from its files."""

import numpy as np
import pytest
from PIL import Image

from distill3r_core.errors import ImageError
from distill3r_core.io.images.depth import (
    as_stored,
    depth_format,
    read_depth,
    read_png16,
    write_depth,
)


@pytest.mark.parametrize(("unit", "step"), [("m", 5e-4), ("mm", 0.5)])
def test_metric_depth_is_kept_to_half_a_millimeter(tmp_path, unit, step) -> None:
    depth = np.random.default_rng(0).uniform(0, 60, (5, 7)).astype(np.float32)
    depth *= {"m": 1, "mm": 1000}[unit]
    write_depth(tmp_path / "d.png", depth, unit=unit)
    found = read_depth(tmp_path / "d.png", stored="png16mm", unit=unit)
    assert np.abs(found - depth).max() <= step * 1.01
    np.testing.assert_array_equal(found, as_stored(depth, unit))


def test_depth_without_a_unit_is_kept_exactly(tmp_path) -> None:
    depth = np.random.default_rng(0).uniform(0, 1e4, (5, 7)).astype(np.float32)
    write_depth(tmp_path / "d.npy", depth, unit="none")
    np.testing.assert_array_equal(read_depth(tmp_path / "d.npy", stored="npy32"), depth)


def test_depth_too_far_for_16_bits_is_not_put_there() -> None:
    near, far = np.full((2, 2), 65.5, np.float32), np.full((2, 2), 65.6, np.float32)
    assert depth_format(near, "m") == "png16mm"
    assert depth_format(far, "m") == "npy32"
    assert depth_format(near, "none") == "npy32"
    np.testing.assert_array_equal(as_stored(far, "m"), far)


def test_8_bit_pictures_are_no_depth(tmp_path) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "d.png")
    with pytest.raises(ImageError, match="not 16-bit gray"):
        read_png16(tmp_path / "d.png")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
def test_broken_depth_is_refused(tmp_path, content) -> None:
    path = tmp_path / "d.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="depth"):
        read_png16(path)
    with pytest.raises(ImageError, match="depth"):
        read_depth(path, stored="npy32")


def test_an_array_of_another_kind_is_refused(tmp_path) -> None:
    np.save(tmp_path / "d.npy", np.zeros((2, 2, 2), np.float32))
    with pytest.raises(ImageError, match="two-dimensional float32"):
        read_depth(tmp_path / "d.npy", stored="npy32")
    np.save(tmp_path / "o.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be read"):
        read_depth(tmp_path / "o.npy", stored="npy32")
