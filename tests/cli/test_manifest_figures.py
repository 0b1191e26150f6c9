"""Figures that `manifest` prints and writes, compared with figures worked out by hand."""

from pathlib import Path

import pytest
from trees import photos, rgbd_scene

from distill3r_core.data.manifest import read_manifest


def lines_of(text: str) -> list[list[str]]:
    """Cells of the lines of all printed tables, without their headings."""
    return [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text.splitlines()
        if "│" in line
    ]


def test_what_a_dry_run_expects_of_two_data_sets(cli_inprocess, tmp_path) -> None:
    photos(tmp_path / "house", 10)
    for scene in ("a", "b"):
        rgbd_scene(tmp_path / "rooms" / scene, 6)
    status, out, _ = cli_inprocess(
        *("manifest", "house", "rooms", "--dry-run", "--teacher-rate", "2", "--views", "4"),
        *("--stride", "2", "--val-scenes", "0", "--link"),
        cwd=tmp_path,
    )
    assert status == 0
    # Every second frame: five of the house, the last of which needs a window of its own, aligned to
    # the end; three of each room, which are fewer than four. A view is 224x518 pixels in the cache,
    # of 5.5 bytes or, where there is depth, 3: 8 views are 5,105,408 bytes, 6 are 2,088,576. At 2
    # views a second they are 4 and 3 seconds. Links take no room.
    assert lines_of(out) == [
        ["house", "images", "1", "5", "2", "0", "0"],
        ["rooms", "rgbd", "2", "6", "2", "0", "0"],
        ["all", "", "3", "11", "4", "0", "0"],
        ["house", "1", "10", "2", "2", "5", "0 kB", "5.11 MB", "4 s"],
        ["rooms", "2", "12", "2", "2", "6", "0 kB", "2.09 MB", "3 s"],
    ]
    assert not (tmp_path / "data").exists()


def test_phone_photographs_are_upright_at_the_size_of_the_manifest(
    data_dir, cli_inprocess, tmp_path
):
    # 1024x768 pixels; six of the seven are shown on their side, and f is 28 of 36 mm of film.
    status, _, _ = cli_inprocess("manifest", data_dir / "tree", "--val-scenes", "0", cwd=tmp_path)
    assert status == 0
    rows = read_manifest(tmp_path / "data" / "manifest.csv").rows
    sizes = {Path(row.image_path).stem: (row.H, row.W) for row in rows}
    assert sizes == {
        **{f"IMG_{number}": (960, 720) for number in (1025, 1027, 1028, 1029, 1036, 1040)},
        "IMG_1047": (720, 960),
    }
    focal = 960 * 28 / 36
    for row in rows:
        assert row.K_source == "exif"
        fx, _, cx, _, fy, cy, *_ = row.K
        assert (fx, fy) == pytest.approx((focal, focal))
        assert (cx, cy) == (row.W / 2, row.H / 2)
