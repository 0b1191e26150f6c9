"""Clouds as PLY files."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from distill3r_core.errors import FailedError
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.ply import read_ply, write_ply


def _cloud(count: int, seed: int = 0) -> Cloud:
    generator = np.random.default_rng(seed)
    points = generator.normal(scale=100, size=(count, 3)).astype(np.float32)
    return Cloud(points, generator.integers(0, 256, (count, 3), np.uint8))


@given(st.integers(0, 50), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_cloud_comes_back_bit_by_bit(tmp_path_factory, count, seed):
    path = tmp_path_factory.mktemp("ply") / "cloud.ply"
    cloud = _cloud(count, seed)
    write_ply(path, cloud, comments=["scale: relative"])
    found, comments = read_ply(path)
    np.testing.assert_array_equal(found.points, cloud.points)
    np.testing.assert_array_equal(found.colors, cloud.colors)
    assert comments == ["scale: relative"]


def test_another_reader_sees_the_same_cloud(tmp_path):
    cloud = _cloud(40)
    write_ply(tmp_path / "cloud.ply", cloud)
    found = trimesh.load(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(found.vertices, cloud.points)
    np.testing.assert_array_equal(found.colors[:, :3], cloud.colors)


@pytest.mark.parametrize("text", [b"", b"no ply", b"ply\nformat ascii 1.0\nend_header\n"])
def test_a_file_that_is_no_colored_cloud_is_refused(tmp_path, text):
    path = tmp_path / "cloud.ply"
    path.write_bytes(text)
    with pytest.raises(FailedError, match=r"cloud\.ply"):
        read_ply(path)


def test_a_truncated_cloud_is_refused(tmp_path):
    path = tmp_path / "cloud.ply"
    write_ply(path, _cloud(40))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(FailedError, match=r"cloud\.ply"):
        read_ply(path)
