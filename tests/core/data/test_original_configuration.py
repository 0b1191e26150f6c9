"""The original project's `data_paths.yaml` gives the scenes that its own rules give.

The patterns are those of its published file, the names those that it makes of the paths; the scenes
that it keeps are the first of its sorted names after a shuffle by seed 0.
"""

import random
from pathlib import Path

import pytest
from trees import save_picture

from distill3r_core.data.manifest import read_manifest
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

# Name, pattern, path of an image with the scene's number in it, the original's name of the scene.
DATA_SETS = [
    ("CO3D", "**/images/*.jpg", "apple/{}_1_1/images/frame{:06d}.jpg", "CO3D_apple_{}_1_1"),
    (
        "ARKitScenes",
        "raw/Training/*/vga_wide/*.png",
        "raw/Training/{}/vga_wide/0_{:d}.5.png",
        "ARKitScenes_{}",
    ),
    ("MegaDepth", "*/dense*/imgs/*.jpg", "{}/dense0/imgs/{:d}.jpg", "MegaDepth_{}_dense0"),
    ("BlendedMVS", "*/blended_images/*.jpg", "{}/blended_images/{:08d}.jpg", "BlendedMVS_{}"),
    (
        "Habitat",
        "*/matterport_color_images/*.jpg",
        "{}/matterport_color_images/a_i1_{:d}.jpg",
        "Habitat_{}",
    ),
    (
        "ScanNetPP",
        "*/dslr/resized_images/*.JPG",
        "{}/dslr/resized_images/DSC{:05d}.JPG",
        "ScanNetPP_{}",
    ),
    ("Mine", "*/*.png", "{}/{:d}.png", "Mine_{}"),
]
NUMBERS = (8, 9, 10, 110, 70)  # whose order as text is not that of the numbers


@pytest.mark.parametrize(("name", "pattern", "place", "original"), DATA_SETS)
def test_the_scenes_are_those_of_the_original(tmp_path, name, pattern, place, original) -> None:
    for scene in NUMBERS:
        for frame in range(2):
            save_picture(tmp_path / "root" / place.format(scene, frame), frame)
    entry = f"{{name: {name}, root: root, pattern: '{pattern}', sample_frac: 0.4}}"
    (tmp_path / "data_paths.yaml").write_text(f"datasets:\n  - {entry}\n")
    build_manifest(
        ManifestSettings((tmp_path / "data_paths.yaml",), tmp_path / "out", val_scenes=0.0)
    )
    names = sorted(original.format(scene) for scene in NUMBERS)
    random.Random(0).shuffle(names)
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    found = {f"{row.dataset}_{row.scene_id}".replace("/", "_") for row in rows}
    assert found == set(names[:2])
    assert len(rows) == 4  # all images of a scene
    assert {Path(row.image_path).suffix for row in rows} == {".png"}
