"""`manifest --preview`: what a person looks at before the long work."""

import numpy as np
from PIL import Image
from trees import color_of, photos, rgbd_scene

from distill3r_core.data.manifest import read_manifest
from distill3r_core.stages.manifest import sample_previews
from distill3r_core.stages.manifest.sample_previews import heading_of


def test_a_sheet_shows_the_first_sample_of_each_scene_in_order(cli_inprocess, tmp_path) -> None:
    for scene in ("a", "b/c"):
        rgbd_scene(tmp_path / "rooms" / scene, 7)
    stale = tmp_path / "data" / "preview" / "rooms" / "old.png"
    arguments = ("manifest", "rooms", "--views", "6", "--preview", "--trust", "--json")
    assert cli_inprocess(*arguments, cwd=tmp_path)[0] == 0
    stale.write_bytes(b"")
    status, out, _ = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0
    assert "data/preview" in out
    assert not stale.exists()
    sheets = sorted((tmp_path / "data" / "preview").rglob("*.png"))
    assert [str(path.relative_to(tmp_path / "data" / "preview")) for path in sheets] == [
        "rooms/a.png",
        "rooms/b/c.png",
    ]
    samples = read_manifest(tmp_path / "data" / "manifest.csv").samples()
    first = samples[0]
    assert heading_of(first, 2).startswith(f"{first.name} (the first of 2 samples): ")
    assert "(the only sample)" in heading_of(first, 1)
    assert "numbers 1 apart, in the order of their numbers" in heading_of(first, 2)
    with Image.open(sheets[0]) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    # Cells of 246x204 pixels below the heading; an image's upper left quarter tells its frame.
    for place, row in enumerate(first.rows):
        left, top = 6 + place % 5 * 246, 24 + place // 5 * 204
        assert tuple(pixels[top + 3, left + 3]) == color_of(int(row.sample_id))


def test_a_dry_run_writes_no_sheet(cli_inprocess, tmp_path) -> None:
    rgbd_scene(tmp_path / "rooms" / "a", 4)
    assert cli_inprocess("manifest", "rooms", "--preview", "--dry-run", cwd=tmp_path)[0] == 0
    assert not (tmp_path / "data").exists()


def test_a_caption_is_the_number_the_size_and_what_the_frame_has(
    cli_inprocess, tmp_path, monkeypatch
) -> None:
    rgbd_scene(tmp_path / "rooms" / "a", 3)
    for scene in ("b", "c"):
        photos(tmp_path / "tour" / scene, 2, name="IMG_{:d}.jpg")
    shown = {}

    def sheet(images, *, heading, count):
        shown[heading.split()[0]] = [caption for _, caption in images]
        return np.zeros((14, 14, 3), np.uint8)

    monkeypatch.setattr(sample_previews, "contact_sheet", sheet)
    arguments = ("manifest", "rooms", "tour", "--val-scenes", "0", "--preview", "--trust")
    assert cli_inprocess(*arguments, cwd=tmp_path)[0] == 0
    assert shown == {
        "rooms/a/000": [f"00000{number} 32x24 depth pose" for number in range(3)],
        "tour/b/000": ["000000 32x24", "000001 32x24"],
        "tour/c/000": ["000000 32x24", "000001 32x24"],
    }
