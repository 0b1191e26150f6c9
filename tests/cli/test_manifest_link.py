"""`manifest --link`: originals stay where they are, and are read as their copies would be."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from colors import icc_profile
from PIL import Image
from trees import photos, save_picture

from distill3r_core.data.layouts import Frame, Layout, Scene, one_dataset, scan
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.manifest_views import content_of, read_view
from distill3r_core.errors import ImageError
from distill3r_core.io.checksums import read_sealed, write_sealed
from distill3r_core.stages.manifest import ManifestSettings, build_manifest, build_stage


def textured(size, channels=3):
    """An image in which every pixel differs, so that any other resize gives other pixels."""
    return np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)


def write_varied(folder):
    """Images of one scene that differ from what is read of them in every way there is."""
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(textured((101, 67))).save(folder / "1.jpg", exif=exif)
    gray = np.linspace(0, 65535, 90 * 70).reshape(90, 70).astype(np.uint16)
    Image.fromarray(gray).save(folder / "2.png")
    Image.fromarray(textured((64, 97), 4)).save(folder / "3.png")  # transparent here and there
    Image.fromarray(textured((80, 33))).quantize(16).save(folder / "4.png")
    Image.fromarray(textured((41, 49))).save(folder / "5.tiff", icc_profile=icc_profile("ProPhoto"))
    Image.fromarray(textured((30, 20))).save(folder / "6.png")  # smaller than the limit
    Image.fromarray(textured((70, 200), 4), "CMYK").save(folder / "7.jpg")
    return folder


def made(folder, root, output, *, link, **settings):
    build_manifest(
        ManifestSettings(
            roots=(root,), output=folder / output, val_scenes=0.0, link=link, **settings
        )
    )
    return read_manifest(folder / output / "manifest.csv")


def test_an_original_is_read_as_its_copy_would_be(tmp_path):
    root = write_varied(tmp_path / "photos")
    before = {path: path.read_bytes() for path in root.iterdir()}
    copies = made(tmp_path, root, "copies", link=False, resize_max=48)
    links = made(tmp_path, root, "links", link=True, resize_max=48)
    assert len(copies.rows) == 7
    for copy, link in zip(copies.rows, links.rows, strict=True):
        assert replace(link, image_path=copy.image_path) == copy
        assert link.image_path in {str(path.resolve()) for path in before}
        expected, got = read_view(copy, copies.root), read_view(link, links.root)
        np.testing.assert_array_equal(got.image, expected.image)
        assert (got.mask is None) == (expected.mask is None)
        assert content_of([link], links.root) == content_of([copy], copies.root)
        assert content_of([link], links.root, compute=True) == content_of([copy], copies.root)
    assert any(row.mask_path for row in links.rows)
    assert not (links.root / "images").exists()
    assert {path: path.read_bytes() for path in root.iterdir()} == before


def test_an_original_that_has_changed_is_noticed_and_read_again(cli_inprocess, tmp_path):
    photos(tmp_path / "photos", 4)
    run = ("manifest", "photos", "--link", "--val-scenes", "0")
    assert cli_inprocess(*run, cwd=tmp_path)[0] == 0
    first = read_manifest(tmp_path / "data" / "manifest.csv")
    status, _, err = cli_inprocess(*run, cwd=tmp_path)
    assert (status, "nothing has changed" in err) == (0, True)
    changed = tmp_path / "photos" / "IMG_9.png"
    save_picture(changed, 77)
    stale = next(row for row in first.rows if row.image_path == str(changed))
    with pytest.raises(ImageError, match="has changed since the manifest was made"):
        read_view(stale, first.root)
    assert cli_inprocess(*run, cwd=tmp_path)[0] == 0
    second = read_manifest(tmp_path / "data" / "manifest.csv")
    assert [a == b for a, b in zip(first.rows, second.rows, strict=True)].count(False) == 1
    for row in second.rows:
        read_view(row, second.root)
    changed.unlink()
    with pytest.raises(ImageError, match="no such file"):
        read_view(next(r for r in second.rows if r.image_path == str(changed)), second.root)


def test_another_choice_is_a_conflict_but_not_for_a_manifest_from_before_the_choice(
    cli_inprocess, tmp_path
):
    photos(tmp_path / "photos", 4)
    run = ("manifest", "photos", "--val-scenes", "0")
    assert cli_inprocess(*run, cwd=tmp_path)[0] == 0
    status, _, err = cli_inprocess(*run, "--link", cwd=tmp_path)
    assert (status, "link: False → True" in err) == (2, True)
    older = tmp_path / "older"
    shutil.copytree(tmp_path / "photos", older / "photos")
    assert cli_inprocess(*run, cwd=older)[0] == 0
    record = read_sealed(older / "data" / "manifest.json")
    del record["settings"]["link"]
    write_sealed(older / "data" / "manifest.json", record)
    status, _, err = cli_inprocess(*run, cwd=older)
    assert status == 0, err
    status, _, _ = cli_inprocess(*run, "--link", "--overwrite", cwd=tmp_path)
    assert status == 0
    rows = read_manifest(tmp_path / "data" / "manifest.csv").rows
    assert {row.image_path for row in rows} == {
        str(path) for path in (tmp_path / "photos").iterdir()
    }


def test_what_has_to_be_turned_and_what_comes_twice_is_copied_and_counted(monkeypatch, tmp_path):
    image = save_picture(tmp_path / "root" / "a.png", 3)
    other = save_picture(tmp_path / "root" / "b.png", 4)
    frames = (
        Frame("0", image, number=0),
        Frame("1", other, number=1, turns=1),
        Frame("2", image, number=2),
    )
    scene = Scene("one", tmp_path / "root", frames, order="number")
    layout = Layout("toy", "a toy", one_dataset(lambda root, skip: iter([scene])))
    monkeypatch.setattr(build_stage, "scan", lambda root, *_, **__: scan(root, layout))
    report = build_manifest(
        ManifestSettings(
            roots=(tmp_path / "root",), output=tmp_path / "data", link=True, val_scenes=0.0
        )
    )
    manifest = read_manifest(tmp_path / "data" / "manifest.csv")
    paths = [row.image_path for row in manifest.rows]
    assert paths == [str(image), "images/root/one/1.png", "images/root/one/2.png"]
    assert read_view(manifest.rows[1], manifest.root).image.shape == (32, 24, 3)
    assert any("b.png: copied, as its file is not upright" in note for note in report.notes)
    assert any("a.png: copied, as its scene has the file twice" in note for note in report.notes)


def test_frames_of_a_video_are_written_once(cli_inprocess, data_dir, tmp_path):
    pytest.importorskip("av")
    status, _, err = cli_inprocess(
        "manifest", data_dir / "video", "--link", "--val-scenes", "0", "--resize-max", "320",
        "--preview", cwd=tmp_path,
    )  # fmt: skip
    assert status == 0, err
    manifest = read_manifest(tmp_path / "data" / "manifest.csv")
    assert all(row.image_path.startswith("video/") for row in manifest.rows)
    assert {read_view(row, manifest.root).image.shape for row in manifest.rows} == {(240, 320, 3)}
    assert not (tmp_path / "data" / "images").exists()
    assert len(list((tmp_path / "data" / "preview").rglob("*.png"))) == 1


def test_a_dry_run_expects_no_image_files(cli_inprocess, tmp_path):
    photos(tmp_path / "photos", 4)
    expected = {}
    for options in ((), ("--link",)):
        status, out, _ = cli_inprocess(
            "manifest", "photos", "--dry-run", "--json", *options, cwd=tmp_path
        )
        assert status == 0
        expected[options] = json.loads(out)["result"]["datasets"][0]["image_bytes"]
    assert expected[()] > 0
    assert expected[("--link",)] == 0
