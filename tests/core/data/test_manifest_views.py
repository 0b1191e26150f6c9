"""Views are what the manifest says, and a changed file is noticed."""

import os
from dataclasses import replace

import numpy as np
import pytest
from trees import color_of, photos, rgbd_scene

from distill3r_core.data.manifest import Manifest, read_manifest
from distill3r_core.data.manifest_views import content_of, read_stamps, read_view
from distill3r_core.errors import ImageError
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.depth import write_depth
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


@pytest.fixture
def rooms(tmp_path) -> Manifest:
    root = tmp_path / "rooms"
    rgbd_scene(root / "a", 4)
    build_manifest(ManifestSettings((root,), tmp_path / "data", val_scenes=0.0))
    return read_manifest(tmp_path / "data" / "manifest.csv")


def test_a_view_has_all_that_its_row_has(rooms) -> None:
    (sample,) = rooms.samples()
    view = read_view(sample.rows[2], rooms.root, sample=sample.name, index=2)
    assert view.image[0, 0].tolist() == list(color_of(2))
    assert view.depth is not None
    np.testing.assert_allclose(view.depth, 1.002, rtol=1e-6)
    assert view.world_from_cam is not None
    assert view.world_from_cam[0, 3] == pytest.approx(0.2)
    assert view.intrinsics is not None
    assert (view.unit, view.sample, view.index) == ("m", sample.name, 2)


def test_a_guessed_k_is_not_given_as_a_calibration(tmp_path) -> None:
    photos(tmp_path / "a", 3)
    build_manifest(ManifestSettings((tmp_path / "a",), tmp_path / "data", val_scenes=0.0))
    manifest = read_manifest(tmp_path / "data" / "manifest.csv")
    view = read_view(manifest.rows[0], manifest.root)
    assert view.intrinsics is view.depth is view.world_from_cam is None


@pytest.mark.parametrize("what", ["picture", "depth", "pose", "size", "gone", "garbage"])
def test_a_changed_frame_is_not_read(rooms, what) -> None:
    row = rooms.rows[1]
    path = rooms.root / row.image_path
    if what == "picture":
        write_image(path, np.full((24, 32, 3), 5, np.uint8))
    elif what == "depth":
        depth = np.full((24, 32), 3.0, np.float32)
        write_depth(rooms.root / row.depth_path, depth, unit="m")
    elif what == "pose":
        assert row.pose is not None
        row = replace(row, pose=(*row.pose[:3], 9.0, *row.pose[4:]))
    elif what == "size":
        write_image(path, np.zeros((24, 40, 3), np.uint8))
    elif what == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ImageError):
        read_view(row, rooms.root)


def test_contents_are_trusted_while_size_and_time_stand(rooms) -> None:
    path = rooms.root / rooms.rows[0].image_path
    before, status = content_of(rooms.rows, rooms.root), path.stat()
    assert content_of(rooms.rows, rooms.root, compute=True) == before
    damaged = bytearray(path.read_bytes())
    write_image(path, np.full((24, 32, 3), 5, np.uint8))
    path.write_bytes(path.read_bytes().ljust(len(damaged), b"\0"))
    assert path.stat().st_size == status.st_size
    assert content_of(rooms.rows, rooms.root) != before  # its time is another
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_of(rooms.rows, rooms.root) == before
    assert content_of(rooms.rows, rooms.root, compute=True) != before
    assert content_of(rooms.rows, rooms.root, stamps={}) != before


def test_contents_stay_when_the_folder_moves(rooms, tmp_path) -> None:
    before = content_of(rooms.rows, rooms.root)
    moved = rooms.root.rename(tmp_path / "elsewhere")
    assert content_of(read_manifest(moved / "manifest.csv").rows, moved) == before


def test_order_and_number_of_rows_count(rooms) -> None:
    rows = rooms.rows
    assert content_of(rows[:3], rooms.root) != content_of(rows, rooms.root)
    assert content_of(rows[::-1], rooms.root) != content_of(rows, rooms.root)


def test_an_unreadable_row_is_named(rooms) -> None:
    (rooms.root / rooms.rows[1].image_path).unlink()
    with pytest.raises(ImageError, match=r"000001\.png: no such file"):
        content_of(rooms.rows, rooms.root)


def test_a_torn_index_is_no_reason_to_stop(rooms) -> None:
    index = rooms.root / ".frames.jsonl"
    whole = read_stamps(rooms.root)
    index.write_text(index.read_text()[:-40])
    assert 0 < len(read_stamps(rooms.root)) < len(whole)


def test_rows_of_the_original_project_get_their_content_from_the_pixels(rooms) -> None:
    bare = [replace(row, content="", picture="") for row in rooms.rows]
    assert content_of(bare, rooms.root) == content_of(rooms.rows, rooms.root)
    assert read_view(bare[0], rooms.root).image.shape == (24, 32, 3)


def test_paths_are_taken_from_where_the_original_was_run(rooms, tmp_path, monkeypatch) -> None:
    row = rooms.rows[0]
    relative = replace(row, image_path=f"data/{row.image_path}", depth_path="", content="")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_view(relative, rooms.root).image[0, 0].tolist() == list(color_of(0))


def test_the_folder_this_runs_in_does_not_change_what_a_path_names(rooms, tmp_path, monkeypatch):
    monkeypatch.chdir(rooms.root)
    row = replace(rooms.rows[0], depth_path="", content="")
    with pytest.raises(ImageError):
        read_view(row, tmp_path / "elsewhere")
