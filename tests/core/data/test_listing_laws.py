"""Laws of listing: whatever order folders come in, and without a look at what need not be read."""

import gzip
import json
import os
import random

import pytest
from manifest_table import build
from PIL import Image
from published_trees import (
    write_12scenes,
    write_arkitscenes,
    write_blendedmvs,
    write_co3d,
    write_dtu_test,
    write_dtu_training,
    write_habitat,
    write_matterport,
    write_megadepth,
    write_scannetpp,
)
from recorded_trees import (
    write_colmap,
    write_nerfstudio,
    write_open3d,
    write_polycam,
    write_record3d,
    write_scannet,
    write_tum,
)
from trees import chess, photos, rgbd_scene

from distill3r_core.data.layouts import Scene, scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def write_photos(root):
    for scene in ("house", "a10", "a9"):
        photos(root / scene, 4)
    return root


def write_rooms(root):
    for scene in ("b", "a/c"):
        rgbd_scene(root / scene, 4)
    return root


def write_nerfstudio_with_sizes(root):
    """The same tree with the size of its images in the file."""
    for path in sorted(write_nerfstudio(root).rglob("transforms.json")):
        path.write_text(json.dumps({**json.loads(path.read_text()), "w": 32, "h": 24}))
    return root


class ShuffledEntries:
    """What `os.scandir` gives, in another order."""

    def __init__(self, entries, draw) -> None:
        with entries:
            self._entries = list(entries)
        draw.shuffle(self._entries)
        self._left = iter(self._entries)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._left)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._left = iter(())


def shuffle_folders(monkeypatch, seed):
    """Let folders list what is in them in an order by a seed; gives how often one was listed."""
    draw, listed = random.Random(seed), []
    scandir, listdir = os.scandir, os.listdir

    def shuffled_scandir(path="."):
        listed.append(path)
        return ShuffledEntries(scandir(path), draw)

    def shuffled_listdir(path="."):
        listed.append(path)
        names = listdir(path)
        draw.shuffle(names)
        return names

    monkeypatch.setattr(os, "scandir", shuffled_scandir)
    monkeypatch.setattr(os, "listdir", shuffled_listdir)
    return listed


@pytest.mark.parametrize(
    "write",
    [write_photos, write_rooms, chess, write_tum, write_colmap, write_nerfstudio, write_co3d],
    ids=["images", "rgbd", "7scenes", "tum", "colmap", "nerfstudio", "co3d"],
)
def test_the_order_of_a_folders_entries_changes_no_byte(tmp_path, monkeypatch, write):
    root = write(tmp_path / "tree")
    results = set()
    for seed in (None, 0, 1):
        out = tmp_path / f"out{seed}"
        with monkeypatch.context() as context:
            if seed is not None:
                listed = shuffle_folders(context, seed)
            build(root, out, views=3)
        assert seed is None or str(root) in map(str, listed)
        names = ("manifest.csv", "rejected.csv")
        results.add(tuple((out / n).read_bytes() for n in names if (out / n).exists()))
    assert len(results) == 1


def test_annotations_of_co3d_are_read_once_a_category(tmp_path, monkeypatch):
    root, unpacked = write_co3d(tmp_path / "co3d"), []  # two categories, three sequences
    opened = gzip.open
    monkeypatch.setattr(gzip, "open", lambda file: unpacked.append(file) or opened(file))
    settings = ManifestSettings((root,), tmp_path / "out", val_scenes=0.0)
    report = build_manifest(settings, dry_run=True, trust=True)
    assert report.result["scenes"] == 3
    assert len(unpacked) == 2


@pytest.mark.parametrize(
    ("write", "frames"),
    [
        *((write_co3d, 31), (write_scannetpp, 25), (write_matterport, 72), (write_megadepth, 5)),
        *((write_blendedmvs, 4), (write_arkitscenes, 8), (chess, 23), (write_12scenes, 6)),
        *((write_dtu_training, 6), (write_dtu_test, 3), (write_rooms, 8), (write_tum, 7)),
        *((write_scannet, 12), (write_colmap, 3), (write_nerfstudio_with_sizes, 6)),
        *((write_record3d, 11), (write_open3d, 3)),
        (lambda root: write_habitat(root, with_depth=False), 4),
        (lambda root: write_polycam(root, corrected=True), 4),
    ],
    ids=[
        *("co3d", "scannetpp", "matterport", "megadepth", "blendedmvs", "arkitscenes", "7scenes"),
        *("12scenes", "dtu-training", "dtu-test", "rgbd", "tum", "scannet", "colmap"),
        *("nerfstudio", "record3d", "open3d", "habitat", "polycam"),
    ],
)
def test_listing_opens_no_image(tmp_path, monkeypatch, write, frames):
    root = write(tmp_path / "tree")
    opened, original = [], Image.open

    def count(file, *args, **kwargs):
        opened.append(file)
        return original(file, *args, **kwargs)

    monkeypatch.setattr(Image, "open", count)
    (dataset,) = scan(root)
    scenes = list_dataset(dataset).scenes
    assert dataset.layout is not None
    assert all(isinstance(scene, Scene) for scene in scenes)
    assert sum(len(scene.frames) for scene in scenes) == frames
    # What Open3D's recorder wrote is told by the first depth map of each of the two folders.
    assert len(opened) == (2 if dataset.layout.name == "open3d" else 0)
