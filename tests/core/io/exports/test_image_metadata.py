"""Copies of images carry the pixels and their color profile, and nothing about the photographer."""

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from distill3r_core.io.exports.image_metadata import without_metadata
from distill3r_core.io.exports.upright_images import write_upright


def _photo(path, *, progressive=False, trailer=b""):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x013B] = "Ada Lovelace"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 0.0)
    options = {
        "exif": exif,
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    }
    if path.suffix == ".png":
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", "my garden")
        info.add_itxt("Author", "Ada Lovelace", zip=True)
        Image.fromarray(pixels).save(path, pnginfo=info, **options)
    else:
        Image.fromarray(pixels).save(path, progressive=progressive, comment=b"my garden", **options)
    path.write_bytes(path.read_bytes() + trailer)
    return path


PHOTOS = [
    ("a.jpg", {}),
    ("a.jpg", {"progressive": True}),
    ("a.jpg", {"trailer": b"video filmed in my garden"}),
    ("a.png", {}),
    ("a.png", {"trailer": b"my garden"}),
]


@pytest.mark.parametrize(("name", "options"), PHOTOS)
def test_metadata_goes_and_pixels_and_profile_stay(tmp_path, name, options) -> None:
    path = _photo(tmp_path / name, **options)
    (tmp_path / f"bare-{name}").write_bytes(without_metadata(path.read_bytes()))
    with Image.open(path) as before, Image.open(tmp_path / f"bare-{name}") as after:
        assert before.getexif()
        assert not after.getexif()
        assert after.info["icc_profile"] == before.info["icc_profile"]
        assert after.info.keys() <= before.info.keys() - {"exif", "comment", "Comment", "Author"}
        assert np.array_equal(np.asarray(after), np.asarray(before))
    data = (tmp_path / f"bare-{name}").read_bytes()
    assert b"my garden" not in data
    assert b"Ada Lovelace" not in data
    assert without_metadata(data) == data


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_copy_keeps_metadata_only_if_it_is_asked_to(tmp_path, name, keep) -> None:
    path = _photo(tmp_path / name)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    copy = write_upright(tmp_path / "out", "v", pixels, source=path, keep_exif=keep)
    assert (copy.read_bytes() == path.read_bytes()) is keep
    with Image.open(copy) as image:
        assert bool(image.getexif()) is keep
        assert np.array_equal(np.asarray(image), pixels)
