"""Every unusual picture is read as a person sees it, or refused with the reason."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from distill3r_core.errors import ImageError
from distill3r_core.io.images.decode import read_image, write_image
from distill3r_core.io.images.masks import read_mask
from distill3r_core.io.images.media_kinds import all_gray

PHOTO = (240, 320, 3)
ACCEPTED = {
    "UPPERCASE.JPG": PHOTO,
    "photo with spaces ünïcödé 写真.jpg": PHOTO,
    "progressive.jpg": PHOTO,
    "trailing_garbage.jpg": PHOTO,
    "corrupt_exif.jpg": PHOTO,
    "orientation_99.jpg": PHOTO,
    "no_extension": PHOTO,
    "png_named.jpg": (60, 80, 3),
    "jpeg_named.png": PHOTO,
    "gray8.png": PHOTO,
    "gray8.jpg": PHOTO,
    "palette.png": PHOTO,
    "one_bit.png": PHOTO,
    "gray_alpha.png": PHOTO,
    "rgba.png": PHOTO,
    "cmyk.jpg": PHOTO,
    "gray16.png": (48, 64, 3),
    "rgb16.png": PHOTO,
    "animated.gif": (120, 160, 3),
    "animated.png": (120, 160, 3),
    "photo.webp": PHOTO,
    "photo.tiff": (48, 64, 3),
    "photo.bmp": (48, 64, 3),
}
REFUSED = {
    "truncated.jpg": "truncated",
    "truncated_header.jpg": "damaged",
    "truncated.png": "truncated",
    "bad_crc.png": "damaged",
    "zero_byte.png": "empty file",
    "text_named.jpg": "not a picture",
    "bomb_header.png": "claims more than",
    "bomb_header_max.png": "claims more than",
    "folder.jpg": "not a file",
    "float_nan.tiff": "not a color picture",
    "one_by_one.png": "1x1 pixels, the least is 14",
    "thin_13x200.png": "13x200 pixels, the least is 14",
    "extreme_aspect_2560x4.png": "2560x4 pixels, the least is 14",
    "truncated.mp4": "not a picture",
    "text_named.mp4": "not a picture",
    "zero_byte.mp4": "empty file",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_unusual_pictures_are_read(data_dir: Path, name: str) -> None:
    assert read_image(data_dir / "bad" / name).pixels.shape == ACCEPTED[name]


@pytest.mark.parametrize("name", REFUSED)
def test_broken_pictures_are_refused_with_the_reason(data_dir: Path, name: str) -> None:
    with pytest.raises(ImageError, match=REFUSED[name]):
        read_image(data_dir / "bad" / name)


@pytest.mark.parametrize("name", ["cmyk.jpg", "rgb16.png", "palette.png", "gray8.jpg"])
def test_other_color_models_look_like_the_photograph(data_dir: Path, name: str) -> None:
    photo = read_image(data_dir / "bad" / "UPPERCASE.JPG").pixels.astype(float)
    found = read_image(data_dir / "bad" / name).pixels.astype(float)
    if "gray" in name:
        photo = np.repeat((photo @ (0.299, 0.587, 0.114))[..., None], 3, axis=-1)
    assert np.abs(found - photo).mean() < 6


def test_gray_of_16_bits_is_scaled_and_not_clipped(data_dir: Path) -> None:
    pixels = read_image(data_dir / "bad" / "gray16.png").pixels
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert abs(pixels.mean() - 127.5) < 1  # the file is a ramp


def test_an_animation_gives_its_first_frame_and_says_so(data_dir: Path) -> None:
    for name in ("animated.gif", "animated.png"):
        picture = read_image(data_dir / "bad" / name)
        assert picture.notes == ("animated: the first of 3 frames",)


def test_transparency_is_laid_on_white_and_said(tmp_path: Path) -> None:
    layer = np.zeros((20, 20, 4), np.uint8)
    layer[:10, :, 3] = 255  # black above, nothing below
    Image.fromarray(layer).save(tmp_path / "half.png")
    picture = read_image(tmp_path / "half.png")
    assert picture.pixels[0, 0].tolist() == [0, 0, 0]
    assert picture.pixels[19, 0].tolist() == [255, 255, 255]
    assert picture.notes == ("transparent parts laid on white",)


def test_opaque_alpha_is_not_worth_a_word(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (9, 8, 7, 255)).save(tmp_path / "opaque.png")
    assert read_image(tmp_path / "opaque.png").notes == ()


def test_orientation_turns_the_picture_upright(data_dir: Path) -> None:
    folder = data_dir / "tree_orientation"
    upright = read_image(folder / "IMG_1047_upright.JPG").pixels.astype(int)
    turned = read_image(folder / "IMG_1047_orientation6.JPG").pixels.astype(int)
    assert upright.shape == turned.shape
    assert np.abs(upright - turned).mean() < 1


def test_every_orientation_comes_back_upright(tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    stored = {  # what a camera would store, for each tag
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for tag, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = tag
        path = tmp_path / f"{tag}.png"
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif)
        np.testing.assert_array_equal(read_image(path).pixels, upright, err_msg=str(tag))


def test_focal_length_comes_from_exif(data_dir: Path) -> None:
    castle = sorted((data_dir / "castle").iterdir())[0]
    assert read_image(castle).exif_focal_35mm == 35
    tree = sorted((data_dir / "tree").iterdir())[0]
    assert read_image(tree).exif_focal_35mm == 28


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "nothing.png")


def test_postscript_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "script.jpg"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(ImageError, match="not a picture"):
        read_image(path)


def test_heic_names_the_extra(tmp_path: Path) -> None:
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(64))
    with pytest.raises(ImageError, match=r"distill3r\[heic\]|damaged"):
        read_image(path)


def test_written_pictures_come_back(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (15, 17, 3)).astype(np.uint8)
    write_image(tmp_path / "a" / "x.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a" / "x.png").pixels, pixels)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    "name", ["progressive.jpg", "palette.png", "animated.gif", "photo.webp", "photo.tiff"]
)
def test_damaged_bytes_never_end_in_another_error(data_dir, tmp_path, drill, name) -> None:
    whole = (data_dir / "bad" / name).read_bytes()
    random_ = random.Random(0)
    for number in range(drill(200)):
        damaged = bytearray(whole)
        if number % 2:
            damaged = damaged[: random_.randrange(len(damaged))]
        else:
            for _ in range(20):
                damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        path = tmp_path / name
        path.write_bytes(damaged)
        try:
            read_image(path)
        except ImageError as error:
            assert str(error)  # noqa: PT017  a picture may well survive


@pytest.mark.parametrize("shape", ["rectangle", "both"])
def test_a_mask_of_12_megapixels_is_read_from_gray_png(tmp_path, shape):
    """As lossless WebP, which knows no gray, it would take 270 MB for a few hundred bytes."""
    image = Image.new("RGB", (4032, 3024))
    draw = ImageDraw.Draw(image)
    draw.rectangle((2800, 1200, 3600, 2700), fill="white")
    if shape == "both":
        draw.ellipse((400, 300, 2600, 2500), fill="white")
    image.save(tmp_path / "m.webp", lossless=True)
    assert (tmp_path / "m.webp").stat().st_size < 6000
    with pytest.raises(ImageError, match="a mask of that size is read as gray PNG"):
        read_mask(tmp_path / "m.webp", (3024, 4032))
    image.convert("L").save(tmp_path / "m.png")
    assert all_gray([tmp_path / "m.png"])
    mask = read_mask(tmp_path / "m.png", (3024, 4032))
    np.testing.assert_array_equal(mask, np.asarray(image)[..., 0] == 255)
