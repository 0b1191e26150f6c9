"""The original project's teacher export can read our manifest (golden README, section 7).

A stand-in has its rules: rows by data set, then scene; sorted by `sample_id` as text; samples of 20
consecutive frames; image paths as they stand, so relative to the working directory.
"""

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest
from manifest_table import build, frame_of
from PIL import Image
from trees import photos, rgbd_scene

from distill3r_core.data.manifest import read_manifest

VIEWS, MOST_SAMPLES = 20, 10000


def original_samples(manifest: Path) -> dict[tuple[str, str, int], list[str]]:
    """Image paths of each sample, by data set, scene and number."""
    scenes = defaultdict(list)
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            scenes[row["dataset"], row["scene_id"]].append(row)
    samples = {}
    for (dataset, scene), rows in scenes.items():
        rows.sort(key=lambda row: row["sample_id"])
        for number in range(min(MOST_SAMPLES, len(rows) // VIEWS)):
            start = min(VIEWS * number, len(rows) - VIEWS)
            paths = [row["image_path"] for row in rows[start : start + VIEWS]]
            samples[dataset, scene, number] = paths
    return samples


def test_the_stand_in_chooses_what_the_original_recorded(tmp_path, golden_dir) -> None:
    facts = json.loads((golden_dir / "sampling.json").read_text())
    cases = [case for case in facts["cases"] if case["total"] >= case["max_views"] == VIEWS]
    assert cases
    for case in cases:
        names = [f"f{number:04d}" for number in range(case["total"])]
        lines = [f"d,s,{name},{name}" for name in reversed(names)]
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join(["dataset,scene_id,sample_id,image_path", *lines]))
        chosen = original_samples(path).get(("d", "s", case["sample"]))
        # A number beyond the count of samples is never asked for.
        assert chosen in (None, [names[index] for index in case["chosen"]]), case
        assert (chosen is None) == (case["sample"] >= case["total"] // VIEWS), case


def test_the_original_reads_our_manifest_from_its_folder(tmp_path, monkeypatch) -> None:
    photos(tmp_path / "tour" / "house", 45)  # IMG_8 to IMG_52
    photos(tmp_path / "tour" / "shed", 19)
    build(tmp_path / "tour", tmp_path / "data", views=20)
    samples = original_samples(tmp_path / "data" / "manifest.csv")
    assert list(samples) == [("tour", "house", 0), ("tour", "house", 1)]  # 19 views are too few
    monkeypatch.chdir(tmp_path)
    assert not any(Path(name).exists() for paths in samples.values() for name in paths)
    monkeypatch.chdir(tmp_path / "data")
    shown = [[frame_of(Path(name)) for name in paths] for paths in samples.values()]
    assert shown == [list(range(20)), list(range(20, 40))]


def test_its_columns_are_what_it_writes_itself(tmp_path, monkeypatch) -> None:
    rgbd_scene(tmp_path / "rooms" / "a", 3)
    build(tmp_path / "rooms", tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    with Path("manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        assert (row["dataset"], row["scene_id"], row["split"]) == ("rooms", "a", "train")
        assert row["sample_id"] == f"{number:06d}"
        assert json.loads(row["K"]) == [30, 0, 16, 0, 30, 12, 0, 0, 1]
        with Image.open(row["image_path"]) as image:
            assert image.format == "PNG"
            assert image.size == (int(row["W"]), int(row["H"])) == (32, 24)


@pytest.mark.parametrize(("frames", "samples"), [(19, 0), (20, 1), (39, 1), (40, 2)])
def test_the_policy_release_cuts_as_the_original_does(tmp_path, frames, samples) -> None:
    photos(tmp_path / "tour" / "house", frames)
    photos(tmp_path / "tour" / "hall", 20)  # so that there is a sample at all
    build(tmp_path / "tour", tmp_path / "data", policy="release")
    manifest = read_manifest(tmp_path / "data" / "manifest.csv")
    ours = [[row.image_path for row in one.rows] for one in manifest.samples()]
    theirs = original_samples(manifest.path)
    assert [scene for _, scene, _ in theirs] == ["hall", *["house"] * samples]
    assert ours == list(theirs.values())
