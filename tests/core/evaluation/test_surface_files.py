"""True surfaces in PLY files: what is read, and what is refused by name."""

import numpy as np
import pytest

from distill3r_core.errors import FailedError
from distill3r_core.evaluation.clouds import surface_files
from distill3r_core.evaluation.clouds.surface_files import read_surface_points

CORNERS = ("0 0 0", "1 0 0", "0 1 0")


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    monkeypatch.setattr(surface_files, "SAMPLES", 500)


def write_ply(path, vertices, face=None):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    if face is not None:
        lines += ["element face 1", "property list uchar int vertex_indices"]
    lines += ["end_header", *vertices, *([] if face is None else [f"3 {face}"])]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_mesh_is_sampled_evenly_and_a_cloud_is_itself(tmp_path):
    cloud = read_surface_points(write_ply(tmp_path / "cloud.ply", CORNERS))
    np.testing.assert_array_equal(cloud, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = read_surface_points(write_ply(tmp_path / "mesh.ply", CORNERS, "0 1 2"))
    assert points.shape == (500, 3) and (points[:, 2] == 0).all()
    assert points[:, :2].min() >= 0 and points[:, :2].sum(axis=1).max() <= 1
    np.testing.assert_allclose(points.mean(axis=0), [1 / 3, 1 / 3, 0], atol=0.05)


@pytest.mark.parametrize(
    ("vertices", "face", "reason"),
    [
        (("nan 0 0", *CORNERS[1:]), None, "no surface"),
        (("nan 0 0", *CORNERS[1:]), "0 1 2", "no surface"),
        (CORNERS, "0 1 1", "no surface"),
        (CORNERS, "0 1 3", "names a vertex that is not there"),
    ],
    ids=["point of a cloud", "corner of a mesh", "mesh without area", "missing corner"],
)
def test_a_surface_that_means_nothing_is_refused_by_its_file(tmp_path, vertices, face, reason):
    path = write_ply(tmp_path / "broken.ply", vertices, face)
    with pytest.raises(FailedError, match=reason) as caught:
        read_surface_points(path)
    assert str(path) in caught.value.message
