"""Images of one stem in a scene are all in the manifest, each under a name of its own."""

import json
from pathlib import Path

import numpy as np
import pytest
from trees import rgbd_scene, save_depth, save_picture

from distill3r_core.data.layouts import Frame
from distill3r_core.data.listing import with_unique_names
from distill3r_core.data.manifest import read_manifest
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def _rgbd(root):
    room = rgbd_scene(root / "room", 2)
    save_picture(room / "rgb" / "000001.jpg", 2)


def _open3d(root):
    for index, name in enumerate(("000000.png", "000000.jpg", "000001.png")):
        save_picture(root / "color" / name, index)
        save_depth(root / "depth" / f"{name[:6]}.png")
    camera = {"width": 32, "height": 24, "intrinsic_matrix": [30, 0, 0, 0, 30, 0, 16, 12, 1]}
    (root / "camera_intrinsic.json").write_text(json.dumps(camera))


def _colmap(root):
    lines = []
    for index, name in enumerate(("s/c.jpg", "s_c.jpg", "d.jpg")):
        save_picture(root / "images" / name, index)
        lines.append(f"{index + 1} 1 0 0 0 {index} 0 0 1 {name}\n\n")
    model = root / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text("1 PINHOLE 32 24 30 30 16 12\n")
    (model / "images.txt").write_text("".join(lines))


def _nerfstudio(root):
    frames = []
    for index, name in enumerate(("a1.png", "a1.jpg", "A1.png")):
        save_picture(root / "images" / name, index)
        frames.append({"file_path": f"images/{name}", "transform_matrix": np.eye(4).tolist()})
    frames.append(frames[0])  # this one is named twice
    (root / "transforms.json").write_text(json.dumps({"fl_x": 30.0, "frames": frames}))


@pytest.mark.parametrize(
    ("layout", "write", "names"),
    [
        ("rgbd", _rgbd, ["000000", "000001-jpg", "000001-png"]),
        ("open3d", _open3d, ["000000-jpg", "000000-png", "000001"]),
        ("colmap", _colmap, ["d", "s_c-jpg", "s_c-jpg-2"]),
        ("nerfstudio", _nerfstudio, ["images_A1-png", "images_a1-jpg", "images_a1-png-2"]),
    ],
)
def test_images_of_one_stem_are_all_in_the_manifest(tmp_path, layout, write, names) -> None:
    write(tmp_path / "data")
    out = tmp_path / "out"
    report = build_manifest(ManifestSettings((tmp_path / "data",), out, views=3), trust=True)
    assert report.result["datasets"][0]["layout"] == layout
    rows = read_manifest(out / "manifest.csv").rows
    assert sorted(Path(row.image_path).stem for row in rows) == names
    assert len({(out / row.image_path).read_bytes() for row in rows}) == 3  # three other colors


def test_a_name_that_was_made_is_not_that_of_another_frame() -> None:
    images = ("a.jpg", "x/a.jpg", "a-jpg.png", "A.png", "b.jpg")
    frames = tuple(Frame(Path(image).stem, Path(image)) for image in images)
    named = with_unique_names(frames)
    assert [frame.name for frame in named] == ["a-jpg-2", "a-jpg-3", "a-jpg", "A-png", "b"]
    assert [frame.image for frame in named] == [frame.image for frame in frames]
    assert with_unique_names(named) is named
