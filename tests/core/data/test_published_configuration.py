"""The original project's `data_paths.yaml` as one file: what it keeps of its six data sets.

The patterns, fractions and splits are those of the published file (TheFourthKaramazov/Distill3R).
"""

from trees import save_picture

from distill3r_core.data.manifest import read_manifest
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

# The published file, its comments and its second set of CO3D left out.
PUBLISHED = """
prep:
  resize_max: 28
  out_dir: processed_data/images
datasets:
  - {name: "CO3D", root: "dataset/co3d", pattern: "**/images/*.jpg",
     sample_frac: 0.4, split: "train"}
  - {name: "ARKitScenes", root: "dataset/arkitscenes/raw/Training", pattern: "*/vga_wide/*.png",
     sample_frac: 0.4, split: "train"}
  - {name: "MegaDepth", root: "dataset/megadepth", pattern: "*/dense*/imgs/*.jpg",
     sample_frac: 0.4, split: "train"}
  - {name: "BlendedMVS", root: "dataset/blendedmvs", pattern: "*/blended_images/*.jpg",
     sample_frac: 0.4, split: "train"}
  - {name: "Habitat", root: "dataset/habitat", pattern: "*/matterport_color_images/*.jpg",
     sample_frac: 0.4, split: "train"}
  - {name: "ScanNetPP", root: "dataset/scannetpp", pattern: "*/dslr/resized_images/*.JPG",
     sample_frac: 0.4, split: "train"}
"""
# Scenes in the order of their names as text. Seed 0 shuffles 1, 2, 3, 4, 5 and 10 items to
# 0 | 0 1 | 0 2 1 | 2 0 1 3 | 2 1 0 4 3 | 7 8 1 5 3 4 2 0 9 6, of which int(0.4 n + 0.5) are kept,
# and at least one.
PUBLISHED_SCENES = {
    "co3d/{}/images/frame000001.jpg": [
        *("apple/10_1_1", "apple/110_1_1", "apple/9_1_1", "ball/1_1_1", "ball/22_1_1"),
        *("ball/3_1_1", "cup/1_1_1", "cup/2_1_1", "cup/3_1_1", "cup/4_1_1"),
    ],
    "arkitscenes/raw/Training/{}/vga_wide/1_1.5.png": ["40753679", "41048190", "47333462"],
    "megadepth/{}/imgs/1.jpg": ["0000/dense0", "0000/dense1", "0015/dense0", "5018/dense2"],
    "blendedmvs/{}/blended_images/00000001.jpg": ["5a3c", "5aa5", "5b08", "5b69", "5c34"],
    "habitat/{}/matterport_color_images/a_i1_1.jpg": ["17DRP5sb8fy"],
    "scannetpp/{}/dslr/resized_images/DSC00001.JPG": ["036bce3393", "0a5c013435"],
}
KEPT = {
    ("CO3D", "cup/2_1_1"),  # 7
    ("CO3D", "cup/3_1_1"),  # 8
    ("CO3D", "apple/110_1_1"),  # 1
    ("CO3D", "ball/3_1_1"),  # 5
    ("ARKitScenes", "40753679"),  # 0
    ("MegaDepth", "0015/dense0"),  # 2
    ("MegaDepth", "0000/dense0"),  # 0
    ("BlendedMVS", "5b08"),  # 2
    ("BlendedMVS", "5aa5"),  # 1
    ("Habitat", "17DRP5sb8fy"),  # 0
    ("ScanNetPP", "036bce3393"),  # 0
}


def test_the_published_file_gives_the_scenes_of_all_six_data_sets(tmp_path, monkeypatch) -> None:
    for place, scenes in PUBLISHED_SCENES.items():
        for scene in scenes:
            image = tmp_path / "dataset" / place.format(scene)
            for frame in range(2):
                name = image.stem[:-1] + str(frame)
                save_picture(image.with_name(name + image.suffix), frame)
    save_picture(
        tmp_path / "dataset/blendedmvs/5b08/blended_images/00000001_masked.jpg", 1
    )  # not one more view
    path = tmp_path / "configs" / "data_paths.yaml"
    path.parent.mkdir()
    path.write_text(PUBLISHED)
    monkeypatch.chdir(tmp_path)  # the roots are relative to where the program runs
    build_manifest(ManifestSettings((path,), tmp_path / "out"))
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    assert {(row.dataset, row.scene_id) for row in rows} == KEPT
    assert len(rows) == 2 * len(KEPT)
    assert {row.split for row in rows} == {"train"}
    assert {(row.H, row.W) for row in rows} == {(21, 28)}  # by prep.resize_max
