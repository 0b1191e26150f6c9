"""`manifest` on the fixture trees of DATASETS.md 13: its rows, as they are there by hand."""

import pytest
from manifest_table import build, reasons, table
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
from trees import chess

from distill3r_core.data.layouts import detect_layout


@pytest.fixture
def rows_of(tmp_path):
    """The table of a tree, once its layout was recognized, and the folder of the manifest."""

    def make(root, layout):
        assert detect_layout(root)[0].name == layout
        out = tmp_path / "out"
        notes = build(root, out)
        return table(out), reasons(out), " ".join(notes)

    return make


def test_co3d(tmp_path, rows_of):
    rows, left_out, notes = rows_of(write_co3d(tmp_path / "co3d"), "co3d")
    # 25 frames, stride (25 - 1) // 19 = 1: one window, and the last five frames are of none.
    turn = [1, *range(3, 22)]
    assert rows == [
        "apple/110_1_1 | train pinhole number none | depth=1.5 pose | 32x24 24 30 13 18 | 0 | "
        + " ".join(f"{number:06d}:{number}" for number in turn),
        "apple/189_2_2 | train pinhole number none | depth=1.5 pose | 32x24 32 30 12 18 | 0 | "
        "000001:1 000003:3 000004:4",
        "skateboard/1_1_1 | train pinhole number none | - | 32x24 | 0 | 000001:1 000002:2 000003:3",
    ]
    assert left_out == {}
    assert "skateboard/1_1_1: 3 images have no annotation" in notes


def test_scannetpp_from_its_data_folder(tmp_path, rows_of):
    rows, left_out, notes = rows_of(write_scannetpp(tmp_path / "scannetpp"), "scannetpp")
    # 22 frames give one window of 20: the two that are left are fewer than half of one.
    assert rows == [
        "0a0a0a0a0a/dslr | train fisheye number m | pose | 32x24 | 0 | "
        "000000:0 000001:1 000002:2 000003:3 000004:4 000005:5 000006:6 000007:7 000008:8 "
        "000009:9 000010:10 000011:11 000012:12 000013:13 000014:14 000015:15 000016:16 "
        "000017:17 000018:18 000019:19",
        "0b0b0b0b0b/dslr | val pinhole number m | depth=1.5 pose | 32x24 20 21 16 12 | 0 | "
        "000000:0 000001:2 000002:3",
    ]
    assert left_out == {"DSC09990.JPG": "blurred, by the data set's own mark"}
    assert "0a0a0a0a0a/dslr: its images are fisheye" in notes
    assert "0b0b0b0b0b/dslr: its images are fisheye" not in notes


@pytest.mark.parametrize("with_depth", [True, False], ids=["EXR", "none"])
def test_habitat_as_rendered_for_croco(tmp_path, rows_of, with_depth):
    if with_depth:
        pytest.importorskip("OpenEXR", reason="extra datasets")
    rows, left_out, _ = rows_of(write_habitat(tmp_path, with_depth=with_depth), "habitat")
    has = "depth=1.5 pose" if with_depth else "pose"
    assert rows == [
        f"hm3d/val/00800-X/00000000 | train pinhole number m | {has} | 32x24 30 31 16 12 | 0 | "
        "000001:1 000002:2 000004:4 000005:5"
    ]
    assert left_out == {}


# Frames of the walk a, c, b, d: a's yaw, c's less one, b's less two, d's one more.
WALKS = {
    "camera0": ["18 41 58 1", "19 36 59 2", "20 37 54 3", "21 38 55 4", "22 39 56 5", "23 40 57 0"],
    "camera1": [
        *("24 47 64 7", "25 42 65 8", "26 43 60 9", "27 44 61 10", "28 45 62 11", "29 46 63 6"),
    ],
    "camera2": [
        *("30 53 70 13", "31 48 71 14", "32 49 66 15", "33 50 67 16", "34 51 68 17", "35 52 69 12"),
    ],
}


def test_matterport_walks_between_its_positions(tmp_path, rows_of):
    rows, left_out, notes = rows_of(write_matterport(tmp_path), "matterport")
    expected = []
    for camera, walks in WALKS.items():
        for number, walk in enumerate(walks):
            a, c, b, d = walk.split()
            expected.append(
                f"1pXnuDYAj8r/{camera}-{number} | train pinhole number m | depth=1.5 pose | "
                f"32x24 20 21 16 12 | 0 | 000000:{a} 000001:{c} 000002:{b} 000003:{d}"
            )
    assert rows == expected
    assert left_out == {}
    assert "images of one position turn on the spot" in notes


def test_megadepth(tmp_path, rows_of):
    rows, left_out, notes = rows_of(write_megadepth(tmp_path), "megadepth")
    # c sees most points; a shares two of them with it, b one.
    assert rows == [
        "0000/dense0 | train pinhole none none | pose | 24x32 40 40 12 16 | 0 | 000000:2",
        "0000/dense0 | train pinhole none none | pose | 32x24 40 40 16 12 | 0 | 000001:0",
        "0000/dense0 | train pinhole none none | pose | 64x48 70 70 32 24 | 0 | 000002:1",
        "0000/dense1 | train pinhole none none | - | 32x24 | 0 | 000000:1 000001:0",
    ]
    assert left_out == {}
    assert "1 scene has no model in sparse/manhattan" in notes


def test_blendedmvs(tmp_path, rows_of):
    rows, left_out, _ = rows_of(write_blendedmvs(tmp_path), "blendedmvs")
    assert rows == [
        "5a3ca9cb270f0e3f14d0eddb | train pinhole number none | depth=1.5 pose | "
        "32x24 40 41 16 12 | 0 | 000000:0 000001:1 000002:2 000003:3"
    ]
    assert left_out == {
        f"0000000{view}_masked.jpg": "a copy with a black background" for view in range(4)
    }


def test_arkitscenes(tmp_path, rows_of):
    rows, left_out, _ = rows_of(write_arkitscenes(tmp_path), "arkitscenes")
    assert rows == [
        "raw/Training/41048190 | train pinhole number m | depth=1.5 pose | 32x24 30 31 16 12 | 0 | "
        "0998900:0 0999500:1 0999999:2 1000003:3 1000600:4 1001200:5",
        "raw/Validation/42000000 | val pinhole number m | depth=1.5 pose | 32x24 30 31 16 12 | 0 | "
        "998900:0 999500:1",
    ]
    assert left_out == {}


def test_7scenes(tmp_path, rows_of):
    rows, left_out, notes = rows_of(chess(tmp_path / "7scenes"), "7scenes")
    # Depth of 1.5 m is that of the color camera, which is 2 mm behind.
    assert rows == [
        "chess/seq-01 | train pinhole number m | depth=1.5 pose | 64x48 52.5 52.5 32.05 24.05 | "
        "0 | 000000:0 000001:1 000002:2 000003:3 000004:4 000005:5 000006:6 000007:7 000008:8 "
        "000009:9 000010:10 000011:11",
        "chess/seq-02 | val pinhole number m | depth=1.5 pose | 64x48 52.5 52.5 32.05 24.05 | "
        "0 | 000000:0 000003:1 000006:2 000009:3 000012:4 000015:5 000018:6 000021:7 000024:8 "
        "000027:9 000030:10",
    ]
    assert left_out == {}
    assert "chess/seq-07 is named in a split file and is not there" in notes


def test_12scenes(tmp_path, rows_of):
    rows, left_out, notes = rows_of(write_12scenes(tmp_path), "12scenes")
    assert rows == [
        "apt1/kitchen/sequence0 | val pinhole number m | depth=1.5 pose | 32x24 30 31 16 12 | 0 | "
        "000000:0 000001:1 000002:2",
        "apt1/kitchen/sequence1 | train pinhole number m | depth=1.5 pose | 32x24 30 31 16 12 | "
        "0 | 000003:3 000005:5",
    ]
    assert left_out == {"frame-000004.color.jpg": "it has no pose, as others of its scene have"}
    assert "apt1/kitchen: 1 of 6 frames has no pose: tracking was lost" in notes


def test_dtu_for_training(tmp_path, rows_of):
    rows, left_out, _ = rows_of(write_dtu_training(tmp_path), "dtu")
    # K of 1600x1200 halved, cut by 80 columns and 44 rows to 640x512, then a sixteenth of it:
    # 1446, 1441.5, 823 / 2 - 80 and 619 / 2 - 44, each by 16.
    assert rows == [
        f"scan1/light{light} | train pinhole number mm | depth=500.0 pose | "
        "40x32 90.375 90.094 20.719 16.594 | 0 | 000001:1 000002:2 000003:3"
        for light in (0, 3)
    ]
    assert left_out == {}


def test_dtu_for_testing(tmp_path, rows_of):
    rows, left_out, _ = rows_of(write_dtu_test(tmp_path), "dtu")
    assert rows == [
        "scan1 | val pinhole number mm | depth=700.0 pose mask | 80x60 144.6 144.15 40 30 | 0 | "
        "000000:0 000001:1 000002:2"
    ]
    assert left_out == {}
