"""MegaDepth in its layout: depth, poses, K of rectified images, an order by shared points."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout_files import listed, made, names, write
from trees import rejected, save_picture

from distill3r_core.data.colmap_model import ColmapCamera, read_observed_images
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts.published.rectified_camera import rectified_rig
from distill3r_core.data.layouts.published.shared_points import walk_by_shared_points
from distill3r_core.data.layouts.records import Note, Refused
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ImageError, NothingUsableError
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

# Points of the scene that each image of a walk a, e, b, d, c sees; f is in no model.
SEEN = {"a.jpg": (1, 2, 3, 4, 5), "e.JPG": (3, 4, 5, 6), "b.png": (5, 6, 7), "d.jpg": (7, 8)}
SEEN["c.jpg"] = (8, 9)


def write_model(folder, seen, *, camera="1 SIMPLE_RADIAL 34 26 40 17 13 0"):
    """A model whose images stand 1 unit apart along x, in the order of their names."""
    write(folder / "cameras.txt", f"# Camera list\n{camera}\n")
    lines = ["# Image list"]
    for number, (name, points) in enumerate(sorted(seen.items())):
        lines.append(f"{number + 1} 1 0 0 0 {-number} 0 0 1 {name}")
        lines.append(" ".join(f"3.5 4.5 {point}" for point in (-1, *points)))
    write(folder / "images.txt", "\n".join(lines) + "\n")


def write_depth(path, depth):
    h5py = pytest.importorskip("h5py", reason="extra datasets")
    with h5py.File(made(path), "w") as file:
        file["depth"] = np.asarray(depth, np.float32)


def test_megadepth_parts_are_scenes_without_an_order(tmp_path):
    for part, files in (("dense0", ("a.jpg", "b.JPG", "c.png")), ("dense1", ("d.jpg", "e.jpg"))):
        for index, name in enumerate(files):
            save_picture(tmp_path / "0015" / part / "imgs" / name, index, (24 + index, 32))
    write(tmp_path / "0015" / "sparse" / "manhattan" / "0" / "images.txt", "")
    scenes, rest = listed(tmp_path, "megadepth")
    assert {name: names(scene) for name, scene in scenes.items()} == {
        "0015/dense0": ["a", "b", "c"],
        "0015/dense1": ["d", "e"],
    }
    assert {(scene.order, scene.split) for scene in scenes.values()} == {("none", "val")}
    assert [item.text.partition(":")[0] for item in rest if isinstance(item, Note)] == [
        "2 scenes have no model in sparse/manhattan"
    ]


def test_megadepth_with_its_model_and_its_depth(tmp_path):
    part = tmp_path / "0001" / "dense0"
    for index, name in enumerate((*SEEN, "f.jpg")):
        save_picture(part / "imgs" / name, index)
        depth = np.full((24, 32), 2.0 + index)
        depth[0] = -1  # farther than another place: no depth
        write_depth(part / "depths" / f"{name[0]}.h5", depth)
    # A rectified image of 34x26 pixels would be 32x24 here: K is scaled to the real size.
    write_model(tmp_path / "0001" / "sparse" / "manhattan" / "0", SEEN)
    scenes, rest = listed(tmp_path, "megadepth")
    scene = scenes["0001/dense0"]
    assert names(scene) == ["a", "e", "b", "d", "c", "f"]
    assert (scene.order, scene.split, scene.place) == ("none", None, "0001")
    frame = read_source_frame(scene.frames[2])  # b, the second by name
    assert frame.world_from_cam is not None and frame.depth is not None
    assert frame.world_from_cam[:3, 3].tolist() == [1, 0, 0]
    assert not frame.depth[0].any() and np.unique(frame.depth[1:]).tolist() == [4]
    assert frame.unit == "none"
    np.testing.assert_allclose(
        frame.intrinsics, [[40 * 32 / 34, 0, 16], [0, 40 * 24 / 26, 12], [0, 0, 1]]
    )
    lost = scene.frames[-1]
    assert lost.pose is None and lost.depth is None and lost.rig is None
    assert [item.text for item in rest if isinstance(item, Note)] == [
        "0001/dense0: 1 of 6 images is not in the model: no pose"
    ]


def test_the_manifest_of_megadepth_has_depth_and_says_what_lacks_it(tmp_path):
    part = tmp_path / "mega" / "0001" / "dense0"
    for index, name in enumerate(SEEN):
        save_picture(part / "imgs" / name, index)
    for name in "aeb":
        write_depth(part / "depths" / f"{name}.h5", np.full((24, 32), 2.0))
    write_depth(part / "depths" / "d.h5", np.full((24, 32), -2.0))  # an order of depths alone
    write_model(tmp_path / "mega" / "0001" / "sparse" / "manhattan" / "0", SEEN)
    build_manifest(
        ManifestSettings((tmp_path / "mega",), tmp_path / "out", views=3, val_scenes=0.0),
        trust=True,
    )
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    # In the order of the walk, which is that of the numbers.
    assert [Path(row.image_path).stem for row in rows] == ["a", "e", "b"]
    assert [row.sample_id for row in rows] == ["000000", "000001", "000002"]
    assert all(row.depth_path and row.pose and row.K_source == "calibrated" for row in rows)
    assert {(row.unit, row.order) for row in rows} == {("none", "none")}
    assert rejected(tmp_path / "out") == {
        "c.jpg": "depth is missing: no c.h5",
        "d.jpg": "depth has no valid pixel",
    }


def write_undistorted(root, scene="0001", *, camera="1 PINHOLE 64 48 60 62 32 24"):
    """The images of the walk, and their depth but for c's; f is in no model."""
    for index, name in enumerate((*SEEN, "f.jpg")):
        save_picture(root / "Undistorted_SfM" / scene / "images" / name, index)
        if name != "c.jpg":
            depth = root / "depth_undistorted" / scene / f"{name[0]}.h5"
            write_depth(depth, np.full((24, 32), 2.0 + index))
    write_model(root / "Undistorted_SfM" / scene / "sparse", SEEN, camera=camera)


def test_megadepth_of_d2_net_has_depth_and_the_k_of_its_undistorted_images(tmp_path):
    write_undistorted(tmp_path)
    write_undistorted(tmp_path, "0015")
    pickled = np.array([{"a": 1}, None], dtype=object)
    np.savez(made(tmp_path / "scene_info" / "0001.npz"), image_paths=pickled)
    scenes, rest = listed(tmp_path, "megadepth-undistorted")
    assert {name: (one.order, one.split, one.place) for name, one in scenes.items()} == {
        "Undistorted_SfM/0001": ("none", None, "0001"),
        "Undistorted_SfM/0015": ("none", "val", "0015"),
    }
    scene = scenes["Undistorted_SfM/0001"]
    assert names(scene) == ["a", "e", "b", "d", "c", "f"]
    frame = read_source_frame(scene.frames[2])  # b, the second by name, the third to be written
    assert frame.world_from_cam[:3, 3].tolist() == [1, 0, 0]
    assert np.unique(frame.depth).tolist() == [4]
    assert frame.intrinsics.tolist() == [[30, 0, 16], [0, 31, 12], [0, 0, 1]]  # halved
    assert frame.unit == "none"
    without_depth, lost = scene.frames[4:]
    assert without_depth.depth is None and without_depth.pose is not None
    assert lost.depth is None and lost.pose is None
    notes = [item.text for item in rest if isinstance(item, Note)]
    assert notes[:2] == [f"{name}: 1 of 6 images is not in the model: no pose" for name in scenes]
    assert notes[2].startswith(f"{tmp_path / 'scene_info'} holds pickled objects and is not read")
    assert len(notes) == 3


def test_megadepth_of_d2_net_is_known_from_each_of_its_folders(tmp_path, monkeypatch):
    write_undistorted(tmp_path)
    for root, scene_id in (
        ("Undistorted_SfM", "0001"),
        ("Undistorted_SfM/0001", "0001"),
        (".", "Undistorted_SfM/0001"),
    ):
        scenes, _ = listed(tmp_path / root, "megadepth-undistorted")
        assert list(scenes) == [scene_id]
    monkeypatch.chdir(tmp_path / "Undistorted_SfM" / "0001")
    scenes, _ = listed(Path(), "megadepth-undistorted")
    (scene,) = scenes.values()
    assert scene.frames[0].depth is not None


def test_megadepth_of_d2_net_without_its_model_or_with_that_of_before(tmp_path):
    write_undistorted(tmp_path, camera="1 SIMPLE_RADIAL 34 26 40 17 13 0.1")
    write_undistorted(tmp_path, "0002")
    shutil.rmtree(tmp_path / "Undistorted_SfM" / "0002" / "sparse")
    scenes, rest = listed(tmp_path, "megadepth-undistorted")
    distorted, plain = scenes.values()
    assert all(frame.rig is None and frame.depth is None for frame in distorted.frames)
    assert names(plain) == list("abcdef")
    assert all(frame.pose is None and frame.depth is None for frame in plain.frames)
    notes = " ".join(item.text for item in rest if isinstance(item, Note))
    assert "camera 1 has no K" in notes and "1 scene has no model in sparse" in notes


@pytest.mark.parametrize("camera", ["1 OPENCV 34 26 40 40 17 13 0 0 0 0", "1 FOV 34 26 4 4 2 2 1"])
def test_a_camera_whose_rectified_k_is_not_known_gives_no_depth(tmp_path, camera):
    part = tmp_path / "0001" / "dense0"
    (part / "depths").mkdir(parents=True)
    for index, name in enumerate(SEEN):
        save_picture(part / "imgs" / name, index)
    write_model(tmp_path / "0001" / "sparse" / "manhattan" / "0", SEEN, camera=camera)
    scenes, rest = listed(tmp_path, "megadepth")
    frames = scenes["0001/dense0"].frames
    assert all(
        frame.pose is not None and frame.rig is None and frame.depth is None for frame in frames
    )
    (note,) = [item.text for item in rest if isinstance(item, Note)]
    assert "camera 1 has no K" in note


def test_a_damaged_model_refuses_its_scene(tmp_path):
    part = tmp_path / "0001" / "dense0"
    for index, name in enumerate(SEEN):
        save_picture(part / "imgs" / name, index)
    model = tmp_path / "0001" / "sparse" / "manhattan" / "0"
    write_model(model, SEEN)
    write(model / "images.txt", "1 1 0 0 0 0 0 0 1 a.jpg\n1.0 2.0 not-a-number\n")
    scenes, rest = listed(tmp_path, "megadepth")
    assert not scenes
    assert [item.path.name for item in rest if isinstance(item, Refused)] == ["dense0"]
    settings = ManifestSettings((tmp_path,), tmp_path / "out", views=3, val_scenes=0.0)
    with pytest.raises(NothingUsableError):
        build_manifest(settings)
    # Images alone need no model.
    report = build_manifest(replace(settings, images_only=True, output=tmp_path / "images"))
    rows = read_manifest(tmp_path / "images" / "manifest.csv").rows
    assert sorted(Path(row.image_path).stem for row in rows) == ["a", "b", "c", "d", "e"]
    assert not any(row.depth_path or row.pose for row in rows)
    (note,) = [note for note in report.notes if note.startswith("0001/dense0: ")]
    assert "its images alone are taken: the model in" in note and "is damaged" in note
    assert any("no order is known of 0001/dense0" in note for note in report.notes)
    assert rejected(tmp_path / "images") == {}


@pytest.mark.parametrize(
    ("focal", "size", "factor"),
    [(900.0, (800, 1200), -0.08), (900.0, (800, 1200), 0.06), (1500.0, (1024, 768), -0.2)],
)
def test_the_k_of_a_rectified_image_is_that_of_colmaps_undistorter(focal, size, factor):
    pycolmap = pytest.importorskip("pycolmap", reason="extra colmap")
    height, width = size
    camera = (focal, width / 2, height / 2, factor)
    options = pycolmap.UndistortCameraOptions()
    options.blank_pixels = 0
    wanted = pycolmap.undistort_camera(
        options, pycolmap.Camera(model="SIMPLE_RADIAL", width=width, height=height, params=camera)
    )
    found = rectified_rig(ColmapCamera("SIMPLE_RADIAL", width, height, camera))
    assert found.size is not None
    # COLMAP rounds down, and counts from the center of the first pixel.
    np.testing.assert_allclose(found.size, (wanted.height, wanted.width), atol=2)
    scale = np.diag([wanted.width / found.size[1], wanted.height / found.size[0], 1.0])
    fx, fy, cx, cy = wanted.params
    np.testing.assert_allclose(
        scale @ found.color, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], rtol=3e-3
    )


def test_a_distortion_that_folds_the_image_is_refused():
    with pytest.raises(ImageError, match="cannot be undone"):
        rectified_rig(ColmapCamera("SIMPLE_RADIAL", 1200, 800, (400.0, 600.0, 400.0, -0.5)))


def test_images_by_the_points_that_they_share():
    # 2 and 3 share no point with the others: they come when nothing else is left.
    seen = [[1, 2, 3], [3, 4], [70, 71], [70, 72], [1, 2, 3, 4], []]
    assert walk_by_shared_points([np.array(points, np.int64) for points in seen]) == [
        *(4, 0, 1),
        *(2, 3, 5),
    ]


@given(st.lists(st.sets(st.integers(0, 12), max_size=6), max_size=8), st.randoms())
def test_the_walk_names_each_image_once_whatever_the_points_are_called(seen, random):
    walk = walk_by_shared_points([np.array(sorted(points), np.int64) for points in seen])
    assert sorted(walk) == list(range(len(seen)))
    called = list(range(1000, 1013))
    random.shuffle(called)
    renamed = [np.array([called[point] for point in points], np.int64) for points in seen]
    assert walk_by_shared_points(renamed) == walk


def test_observations_are_the_same_in_text_and_in_binary(tmp_path):
    pycolmap = pytest.importorskip("pycolmap", reason="extra colmap")
    write_model(tmp_path / "text", SEEN)
    write(
        tmp_path / "text" / "points3D.txt",
        "".join(
            f"{point} 0 0 1 0 0 0 1 "
            + " ".join(
                f"{number + 1} {points.index(point) + 1}"
                for number, (_, points) in enumerate(sorted(SEEN.items()))
                if point in points
            )
            + "\n"
            for point in sorted(set(itertools.chain(*SEEN.values())))
        ),
    )
    (tmp_path / "binary").mkdir()
    pycolmap.Reconstruction(str(tmp_path / "text")).write_binary(str(tmp_path / "binary"))
    for folder in ("text", "binary"):
        _, found = read_observed_images(tmp_path / folder, SEEN.keys() - {"c.jpg"})
        assert {image.name: tuple(points.tolist()) for image, points in found} == {
            name: points for name, points in SEEN.items() if name != "c.jpg"
        }
