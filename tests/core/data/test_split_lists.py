"""Data sets whose own lists say which scenes are for training: the lists decide."""

import gzip
import json

import numpy as np
import pytest
from layout_files import listed, write
from trees import save_picture

from distill3r_core.data.layouts import frames_for_test
from distill3r_core.data.layouts.records import Note, Refused
from distill3r_core.data.manifest import read_manifest
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def splits(root, layout):
    scenes, _ = listed(root, layout)
    return {name: scene.split for name, scene in scenes.items()}


def of_test(root):
    """Scenes that are test data, without the name of the data set."""
    return {name.partition("/")[2] for name, _ in frames_for_test(root)}


def write_scannet(root):
    for scene in ("scene0000_00", "scene0001_00", "scene0002_00", "scene0003_00"):
        for number in range(2):
            save_picture(root / scene / "color" / f"{number}.jpg", number)
        k = "30 0 15.5 0\n0 30 11.5 0\n0 0 1 0\n0 0 0 1\n"
        write(root / scene / "intrinsic" / "intrinsic_color.txt", k)


def test_scannet(tmp_path):
    write_scannet(tmp_path / "scannet" / "scans")
    root = tmp_path / "scannet"
    write(root / "scannetv2_train.txt", "scene0000_00\r\nscene0009_00\r\n")
    write(root / "scannetv2_val.txt", "\n  scene0001_00\n")
    write(root / "scannetv2_test.txt", "scene0002_00\n")
    wanted = {
        "scene0000_00": "train",
        "scene0001_00": "val",
        "scene0002_00": "val",
        "scene0003_00": None,
    }
    assert splits(root / "scans", "scannet") == wanted
    assert splits(root, "scannet") == {f"scans/{name}": side for name, side in wanted.items()}
    assert of_test(root / "scans") == {"scene0001_00", "scene0002_00"}
    # Without --val-scenes a scene that no list names is for training.
    build_manifest(ManifestSettings((root,), tmp_path / "out", views=2, val_scenes=0.0))
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    assert {row.scene_id: row.split for row in rows} == {
        f"scans/{name}": side or "train" for name, side in wanted.items()
    }


def test_without_lists_nothing_is_decided(tmp_path):
    write_scannet(tmp_path)
    assert set(splits(tmp_path, "scannet").values()) == {None}
    assert len(of_test(tmp_path)) == 4


@pytest.mark.parametrize(
    "train", ["BlendedMVS_training.txt", "BlendedMVG_training.txt", "training_list.txt"]
)
def test_blendedmvs(tmp_path, train):
    scenes = ("5a3ca9cb270f0e3f14d0eddb", "5a3cb4e4270f0e3f14d12f43", "5a4a38dad38c8a075495b5d2")
    for scene in scenes:
        save_picture(tmp_path / scene / "blended_images" / "00000000.jpg", 0)
    write(tmp_path / train, f"{scenes[0]}\n{scenes[1]}\n")
    write(tmp_path / "validation_list.txt", f"{scenes[1]}\n{scenes[2]}\n")
    # What is in both is training data.
    assert splits(tmp_path, "blendedmvs") == dict(
        zip(scenes, ("train", "train", "val"), strict=True)
    )


def test_habitat_lists_name_batches_by_their_paths(tmp_path):
    camera = {
        "camera_intrinsics": [[30, 0, 16], [0, 30, 12], [0, 0, 1]],
        "R_cam2world": np.eye(3).tolist(),
        "t_cam2world": [0, 0, 0],
    }
    # Two places have batches of one name, and a place has batches on both sides.
    for batch in ("hm3d/a/00000000", "hm3d/a/00000001", "gibson/b/00000000", "gibson/b/00000007"):
        save_picture(tmp_path / f"{batch}_1.jpeg", 1)
        write(tmp_path / f"{batch}_1_camera_params.json", json.dumps(camera))
    write(tmp_path / "Habitat_1000_scenes_train.txt", "hm3d/a/00000000\n")
    write(tmp_path / "Habitat_2000_scenes_train.txt", "gibson/b/00000000\n")
    write(tmp_path / "Habitat_1000_scenes_val.txt", "hm3d/a/00000001\n")
    write(tmp_path / "Habitat_1000_scenes_val.txt.old", "gibson/b/00000007\n")
    assert splits(tmp_path, "habitat") == {
        "hm3d/a/00000000": "train",
        "hm3d/a/00000001": "val",
        "gibson/b/00000000": "train",
        "gibson/b/00000007": None,
    }
    assert of_test(tmp_path) == {"hm3d/a/00000001"}


def write_co3d(root, **set_lists):
    """A category of four sequences; a set list is sequences by their part, each with one frame."""
    for sequence in ("110_1_1", "189_2_2", "300_3_3", "400_4_4"):
        save_picture(root / "apple" / sequence / "images" / "frame000001.jpg", 1)
    (root / "apple" / "frame_annotations.jgz").write_bytes(gzip.compress(b"[]"))
    for name, parts in set_lists.items():
        content = {
            part: [[sequence, 0, f"apple/{sequence}/images/frame000001.jpg"] for sequence in found]
            for part, found in parts.items()
        }
        write(root / "apple" / "set_lists" / f"set_lists_{name}.json", json.dumps(content))


DEV = {"train": ["110_1_1", "189_2_2"], "val": ["110_1_1", "300_3_3"], "test": []}


def test_co3d_is_split_by_its_only_set_list(tmp_path):
    write_co3d(tmp_path, fewview_dev=DEV)
    # Frames of 110_1_1 are on both sides; a scene is on one.
    assert splits(tmp_path, "co3d") == {
        "apple/110_1_1": "train",
        "apple/189_2_2": "train",
        "apple/300_3_3": "val",
        "apple/400_4_4": None,
    }
    assert of_test(tmp_path) == {"apple/300_3_3"}


def test_several_set_lists_of_co3d_decide_nothing_and_that_is_said(tmp_path):
    write_co3d(tmp_path, fewview_dev=DEV, fewview_train={"train": ["300_3_3"], "val": []})
    assert set(splits(tmp_path, "co3d").values()) == {None}
    _, rest = listed(tmp_path, "co3d")
    notes = [item.text for item in rest if isinstance(item, Note)]
    assert [
        note for note in notes if note.startswith("categories with several files in set_lists: 1")
    ]


@pytest.mark.parametrize(
    "content",
    ["{", "[1]", '{"train": [["110_1_1"]]}', '{"val": 3}', '{"train": [[null, 1, "a.jpg"]]}'],
)
def test_a_damaged_set_list_refuses_its_category(tmp_path, content):
    write_co3d(tmp_path)
    write(tmp_path / "apple" / "set_lists" / "set_lists_fewview_dev.json", content)
    scenes, rest = listed(tmp_path, "co3d")
    assert scenes == {}
    (refused,) = [item for item in rest if isinstance(item, Refused)]
    assert refused.path.name == "set_lists_fewview_dev.json"
    assert "damaged" in refused.reason
