"""Scenes of NeRF out of Blender: a file for each split, image names without a suffix."""

import json

import numpy as np
import pytest
from layout_files import listed, made, names
from PIL import Image
from trees import save_picture, two_colors

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import LeftOut, Note, frames_for_test, scan
from distill3r_core.data.manifest import read_manifest
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def write_lego(folder, *, parts=("train", "val", "test")):
    for part in parts:
        frames = []
        for number in (10, 9, 2):
            image = two_colors(number)
            image.putalpha(Image.new("L", image.size, 255))
            image.save(made(folder / part / f"r_{number}.png"))
            pose = np.eye(4)
            pose[0, 3] = number
            frames.append({"file_path": f"./{part}/r_{number}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": 2 * np.arctan(0.5), "frames": frames}
        (folder / f"transforms_{part}.json").write_text(json.dumps(content))


def test_each_file_of_a_blender_scene_is_a_scene_of_its_split(tmp_path):
    write_lego(tmp_path / "lego")
    save_picture(tmp_path / "lego" / "test" / "r_2_depth_0001.png", 7)
    scenes, rest = listed(tmp_path, "nerfstudio")
    assert {name: (one.split, one.is_test, one.place) for name, one in scenes.items()} == {
        "lego/train": ("train", False, "lego"),
        "lego/val": ("val", False, "lego"),
        "lego/test": ("val", True, "lego"),
    }
    assert names(scenes["lego/val"]) == ["val_r_2", "val_r_9", "val_r_10"]
    frame = read_source_frame(scenes["lego/val"].frames[1])
    assert frame.world_from_cam is not None
    assert frame.world_from_cam[0].tolist() == [1, 0, 0, 9]
    # An angle of view whose half has the tangent 1/2: the focal length is the width, 32.
    np.testing.assert_allclose(frame.intrinsics, [[32, 0, 16], [0, 32, 12], [0, 0, 1]])
    assert [item.path.name for item in rest if isinstance(item, LeftOut)] == ["r_2_depth_0001.png"]
    assert [name.rpartition("/")[2] for name, _ in frames_for_test(tmp_path)] == ["test"]


def test_a_manifest_keeps_the_splits_of_a_blender_scene(tmp_path):
    write_lego(tmp_path / "nerf" / "lego")
    settings = ManifestSettings((tmp_path / "nerf",), tmp_path / "out", views=3)
    build_manifest(settings, trust=True)
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    assert {(row.scene_id, row.split) for row in rows} == {
        ("lego/train", "train"),
        ("lego/val", "val"),
        ("lego/test", "val"),
    }
    assert len(rows) == 9


def test_one_file_for_all_comes_before_those_of_the_splits(tmp_path):
    write_lego(tmp_path / "lego", parts=("train", "test"))
    content = json.loads((tmp_path / "lego" / "transforms_test.json").read_text())
    (tmp_path / "lego" / "transforms.json").write_text(json.dumps(content))
    [dataset] = scan(tmp_path / "lego")
    (scene,) = (item for item in dataset.list_scenes() if not isinstance(item, LeftOut))
    assert (scene.scene_id, scene.split, len(scene.frames)) == ("lego", None, 3)


def write_listed(folder, **lists):
    """Five images in `images`, and lists of the names that are given without their folder."""
    frames = []
    for number in range(1, 6):
        save_picture(folder / "images" / f"f{number}.png", number)
        path = f"images/f{number}.png"
        frames.append({"file_path": path, "transform_matrix": np.eye(4).tolist()})
    named = {
        f"{part}_filenames": [
            f"images/{name}.png" if isinstance(name, str) else name for name in names
        ]
        for part, names in lists.items()
    }
    content = {"w": 32, "h": 24, "fl_x": 30, "frames": frames, **named}
    (folder / "transforms.json").write_text(json.dumps(content))


ALL = ("f1", "f2", "f3", "f4", "f5")


@pytest.mark.parametrize(
    ("lists", "wanted", "said"),
    [
        (
            {"train": ALL, "val": ("f4", "f5"), "test": ("f4", "f5")},
            {"train": ALL},
            ["2 images are in several lists of its transforms.json, and taken as training data"],
        ),
        (
            {"train": ALL[:3], "val": ("f4", "f5"), "test": ("f4", "f5")},
            {"train": ALL[:3], "test": ("f4", "f5")},
            ["2 images are in several lists of its transforms.json, and taken as test data"],
        ),
        (
            {"train": ALL[:2], "val": ("f2", "f3", "f4"), "test": ("f4", "f5")},
            {"train": ALL[:2], "val": ("f3",), "test": ("f4", "f5")},
            [
                "1 image is in several lists of its transforms.json, and taken as training data",
                "1 image is in several lists of its transforms.json, and taken as test data",
            ],
        ),
        (
            {"train": ALL[:4], "val": ("f5", "f6", "f7", 8, None)},
            {"train": ALL[:4], "val": ("f5",)},
            ["its lists have 4 names of no frame"],
        ),
        ({"train": ALL[:4], "val": ("f5",)}, {"train": ALL[:4], "val": ("f5",)}, []),
    ],
)
def test_an_image_is_in_one_part_whatever_lists_name_it(tmp_path, lists, wanted, said):
    write_listed(tmp_path, **lists)
    scenes, rest = listed(tmp_path, "nerfstudio")
    found = {
        name.rpartition("/")[2]: tuple(frame.image.stem for frame in one.frames)
        for name, one in scenes.items()
    }
    assert found == wanted
    assert all(one.is_test == name.endswith("/test") for name, one in scenes.items())
    assert [note.text.partition(": ")[2] for note in rest if isinstance(note, Note)] == said
