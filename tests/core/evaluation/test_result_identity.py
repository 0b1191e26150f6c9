"""What decides about figures decides whether a finished result is of the same data."""

import os
import shutil

import pytest
import torch
from scored_room import read_truths
from spatialbench_scenes import write_scene

from distill3r_core.evaluation.clouds import surface_files
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes import arc, build_scene, pinhole, render_view

SIZE, VIEWS = (28, 42), 3


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    monkeypatch.setattr(surface_files, "SAMPLES", 1000)


def parts_of(root, protocol):
    """The parts of the identity of a result of the data, in order."""
    found = read_truths(root, protocol)
    assert not found.failed and found.views > 0
    return list(found.contents)


@pytest.fixture
def rooms(tmp_path):
    """Two sequences of one room, as RGB-D."""
    scene, intrinsics = build_scene(3), pinhole(SIZE)
    poses = arc(scene, 2 * VIEWS, seed=3)
    views = [render_view(scene, pose, intrinsics, SIZE) for pose in poses]
    images, depths = (torch.stack(parts) for parts in zip(*views, strict=True))
    for name, part in (("a", slice(VIEWS)), ("b", slice(VIEWS, None))):
        folder = tmp_path / "rooms/chess" / name
        write_rgbd_scene(folder, images[part], depths[part], poses[part], intrinsics)
    return tmp_path / "rooms"


def write_mesh(path, *, height=0.0):
    """A PLY file with one triangle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = (
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
        "property float z\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    path.write_text(f"{header}0 0 {height}\n1 0 0\n0 1 0\n3 0 1 2\n")


def test_another_mesh_of_da3_bench_is_another_result(rooms):
    mesh = rooms / "meshes/chess.ply"
    without = parts_of(rooms, "da3-bench")
    write_mesh(mesh)
    first = parts_of(rooms, "da3-bench")
    write_mesh(mesh, height=0.5)
    other = parts_of(rooms, "da3-bench")
    assert without != first != other != without
    write_mesh(mesh)
    assert parts_of(rooms, "da3-bench") == first
    # A protocol that compares with no surface does not depend on it.
    plain = parts_of(rooms, "table2")
    mesh.unlink()
    assert parts_of(rooms, "table2") == plain


def test_another_cloud_of_spatialbench_is_another_result_of_densities_that_are_fused(tmp_path):
    for density in ("medium", "sparse"):
        write_scene(tmp_path / density / "7scenes/chess")
    cloud = tmp_path / "pointcloud/7scenes/chess/mesh.ply"
    protocols = ("spatialbench-medium", "spatialbench-sparse")
    without = [parts_of(tmp_path, protocol) for protocol in protocols]
    write_mesh(cloud)
    fused, plain = (parts_of(tmp_path, protocol) for protocol in protocols)
    assert fused != without[0] and plain == without[1]
    os.utime(cloud, ns=(0, 0))
    again = [parts_of(tmp_path, protocol) for protocol in protocols]
    assert again[0] != fused and again[1] == plain


def test_a_broken_cloud_of_spatialbench_is_named_and_the_scene_scored_without_it(tmp_path):
    write_scene(tmp_path / "medium/7scenes/chess")
    cloud = tmp_path / "pointcloud/7scenes/chess/mesh.ply"
    cloud.parent.mkdir(parents=True)
    cloud.write_text("no surface")
    found = read_truths(tmp_path, "spatialbench-medium")
    (truth,) = found.truths
    assert truth.surface is None
    assert [failure.item for failure in found.failed] == [str(cloud)]


def test_the_same_frames_under_other_names_or_in_other_windows_are_another_result(rooms, tmp_path):
    before = parts_of(rooms, "table2")
    shutil.copytree(rooms, tmp_path / "moved/rooms")
    moved = tmp_path / "moved/rooms"
    (moved / "chess/b").rename(moved / "chess/c")
    renamed = parts_of(moved, "table2")
    assert renamed != before
    (moved / "chess/c").rename(moved / "chess/b")
    assert parts_of(moved, "table2") == before
    # The first frame of the second sequence becomes the last of the first one.
    for folder in ("rgb", "depth", "pose"):
        (first,) = (moved / "chess/b" / folder).glob("000000.*")
        first.rename(moved / "chess/a" / folder / f"{VIEWS:06d}{first.suffix}")
    assert parts_of(moved, "table2") != before


def test_a_scene_of_spatialbench_is_another_one_by_another_reader(tmp_path):
    write_scene(tmp_path / "sparse/tum/room")
    before = parts_of(tmp_path, "spatialbench-sparse")
    (tmp_path / "sparse/tum").rename(tmp_path / "sparse/adt")
    assert parts_of(tmp_path, "spatialbench-sparse") != before
