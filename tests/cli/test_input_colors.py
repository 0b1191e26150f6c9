"""Colors from the file to the manifest and the cloud: profiles, HDR video, HEIC."""

import json
from pathlib import Path

import numpy as np
import pytest
from colors import (
    hlg_signal,
    icc_profile,
    linear_of,
    lut_profile,
    pq_signal,
    srgb_curve,
    to_srgb,
    write_hdr,
    xyz_from_rgb,
)
from infer_project import run_infer
from PIL import Image, ImageCms
from plyfile import PlyData

from distill3r_core.data.manifest import read_manifest

PROFILES = ["Display P3", "Adobe RGB", "ProPhoto"]


def patches(seed: int = 0, low: int = 0) -> np.ndarray:
    """An image of 4 by 6 plain patches of 8 by 8 pixels."""
    colors = np.random.default_rng(seed).integers(low, 256, (4, 6, 3))
    return colors.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)


def manifest_images(cli_inprocess, folder: Path, *options: str) -> dict[str, np.ndarray]:
    """Images that `manifest` makes of a folder, by their names."""
    arguments = ("manifest", folder, "--views", "2", "--stride", "1", "--val-scenes", "0", *options)
    status, _, err = cli_inprocess(*arguments, "--overwrite", "--json", cwd=folder.parent)
    assert status == 0, err
    manifest = read_manifest(folder.parent / "data/manifest.csv")
    return {
        Path(row.image_path).stem: np.asarray(Image.open(manifest.root / row.image_path))
        for row in manifest.rows
    }


@pytest.mark.parametrize("space", PROFILES)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_wide_gamut_photographs_become_srgb(cli_inprocess, tmp_path, space, suffix) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    exact = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    for number in range(2):
        image = Image.fromarray(patches(number))
        image.save(folder / f"{number}.{suffix}", icc_profile=icc_profile(space), **exact)
    for name, pixels in manifest_images(cli_inprocess, folder).items():
        stored = np.asarray(Image.open(folder / f"{name}.{suffix}").convert("RGB"))
        wanted = to_srgb(stored.astype(float), space)
        inside = (slice(2, None, 4), slice(2, None, 4))
        assert np.abs(pixels[inside] - wanted[inside]).max() <= 2
    assert np.abs(wanted - stored).max() > 10  # the profile matters


def test_colors_are_those_of_a_managed_reader(cli_inprocess, tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, space in enumerate(PROFILES):
        image = Image.fromarray(patches(number))
        image.save(folder / f"{number}.png", icc_profile=icc_profile(space))
    found = manifest_images(cli_inprocess, folder)
    for number in range(len(PROFILES)):
        image = Image.open(folder / f"{number}.png")
        (tmp_path / "p.icc").write_bytes(image.info["icc_profile"])
        managed = ImageCms.profileToProfile(
            image, str(tmp_path / "p.icc"), ImageCms.createProfile("sRGB")
        )
        assert np.abs(found[str(number)].astype(int) - np.asarray(managed)).max() <= 2


def test_of_two_intents_the_perceptual_one_is_taken(cli_inprocess, tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    gray = np.repeat(patches()[..., :1], 3, axis=2)
    gray[:8, :8] = 128
    for name, shares in (("dark", (0.5, 1.0)), ("light", (1.0, 0.5))):
        Image.fromarray(gray).save(folder / f"{name}.png", icc_profile=lut_profile(*shares))
    found = manifest_images(cli_inprocess, folder)
    for name, share in (("dark", 0.5), ("light", 1.0)):
        luminance = ((100 * share * 128 / 255 + 16) / 116) ** 3
        wanted = 255 * srgb_curve(np.array(luminance))
        assert np.abs(found[name][4, 4] - wanted).max() <= 2, name


def test_srgb_stays_as_it_is_with_its_profile_and_with_one_that_is_broken(
    cli_inprocess, tmp_path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("plain", None), ("own", own), ("broken", b"no profile" * 20)):
        Image.fromarray(patches()).save(folder / f"{name}.png", icc_profile=profile)
    for name, pixels in manifest_images(cli_inprocess, folder).items():
        np.testing.assert_array_equal(pixels, patches(), err_msg=name)


def test_the_colors_of_a_transparent_image_are_managed_too(cli_inprocess, tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    layer = Image.fromarray(patches()).convert("RGBA")
    layer.putpixel((0, 0), (0, 0, 0, 0))
    for name in "ab":
        layer.save(folder / f"{name}.png", icc_profile=icc_profile("Adobe RGB"))
    pixels = manifest_images(cli_inprocess, folder)["a"]
    assert np.abs(pixels[1:] - to_srgb(patches().astype(float), "Adobe RGB")[1:]).max() <= 2
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_exported_images_are_srgb_where_the_photograph_is_not(cli_inprocess, project) -> None:
    folder = project / "photos"
    folder.mkdir()
    profile = icc_profile("Display P3")
    Image.fromarray(patches()).save(folder / "wide.png", icc_profile=profile)
    Image.fromarray(patches(1)).save(folder / "plain.png")
    arguments = (folder, "--format", "colmap", "-o", "out")
    assert run_infer(cli_inprocess, *arguments, cwd=project)[0] == 0
    plain, wide = (project / "out/images/plain.png", project / "out/images/wide.jpg")
    assert plain.read_bytes() == (folder / "plain.png").read_bytes()
    shown = np.asarray(Image.open(wide))[2::4, 2::4].astype(float)
    wanted = to_srgb(patches().astype(float), "Display P3")[2::4, 2::4]
    assert np.abs(shown - wanted).mean() < 3


@pytest.mark.parametrize(
    ("name", "signal", "transfer"), [("HLG", hlg_signal, 18), ("PQ", pq_signal, 16)]
)
def test_hdr_video_looks_like_its_sdr_original(
    cli_inprocess, tmp_path, name, signal, transfer
) -> None:
    pytest.importorskip("av")
    folder = tmp_path / "clips"
    folder.mkdir()
    original = patches(3, low=8)
    write_hdr(folder / "hdr.mp4", signal(original / 255), transfer=transfer)
    arguments = ("manifest", folder, "--views", "2", "--val-scenes", "0", "--set", "video_fps=10")
    status, _, err = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0
    assert f"hdr.mp4: HDR: {name}, BT.2020, brought to sRGB" in err
    (row, *_) = read_manifest(tmp_path / "data/manifest.csv").rows
    pixels = np.asarray(Image.open(tmp_path / "data" / row.image_path)).astype(int)
    assert np.abs(pixels - original)[2::4, 2::4].max() <= 6
    # it says so again when nothing is left to do
    assert "brought to sRGB" in cli_inprocess(*arguments, cwd=tmp_path)[2]


@pytest.mark.parametrize(("name", "transfer"), [("HLG", 18), ("PQ", 16)])
def test_what_hdr_video_has_beyond_srgb_is_clipped(cli_inprocess, tmp_path, name, transfer) -> None:
    pytest.importorskip("av")
    (tmp_path / "clips").mkdir()
    # Brighter than white; then greens of BT.2020, which have less than no red and blue in BT.709.
    colors = np.array([[0.95, 0.95, 0.95], [0, 0.4, 0], [0, 0.6, 0], [0.3, 0.3, 0.3]])
    signal = colors.reshape(1, 4, 3).repeat(48, axis=0).repeat(20, axis=1)
    write_hdr(tmp_path / "clips/hdr.mp4", signal, transfer=transfer)
    arguments = ("manifest", "clips", "--views", "2", "--val-scenes", "0")
    status, _, err = cli_inprocess(*arguments, "--set", "video_fps=10", cwd=tmp_path)
    assert status == 0, err
    (row, *_) = read_manifest(tmp_path / "data/manifest.csv").rows
    pixels = np.asarray(Image.open(tmp_path / "data" / row.image_path))[24, 10::20]
    linear = linear_of(colors, transfer)
    bt709 = np.linalg.inv(xyz_from_rgb("BT.709")) @ xyz_from_rgb("BT.2020")
    wanted = 255 * srgb_curve(np.clip(linear @ bt709.T, 0, 1))
    assert (linear[0] > 1.5).all() and (linear[1:3] @ bt709.T)[:, 0].max() < 0
    assert np.abs(pixels - wanted).max() <= 6


def test_hdr_video_is_brought_to_srgb_for_a_reconstruction(cli_inprocess, project) -> None:
    pytest.importorskip("av")
    original = patches(4, low=8)
    write_hdr(project / "hdr.mp4", hlg_signal(original / 255), transfer=18)
    arguments = ("hdr.mp4", "--fps", "10", "--format", "nerfstudio", "-o", "out")
    status, _, err = run_infer(cli_inprocess, *arguments, cwd=project)
    assert status == 0 and "HLG, BT.2020, brought to sRGB" in err
    frames = json.loads((project / "out/transforms.json").read_text())["frames"]
    shown = np.asarray(Image.open(project / "out" / frames[0]["file_path"])).astype(int)
    assert np.abs(shown - original)[2::4, 2::4].mean() < 4
    assert len(PlyData.read(project / "out/scene.ply")["vertex"])


def test_a_heic_file_gives_its_primary_image(cli_inprocess, tmp_path) -> None:
    heif = pytest.importorskip("pillow_heif")
    folder = tmp_path / "phone"
    folder.mkdir()
    for number, primary in ((0, 1), (1, 0)):
        file = heif.HeifFile()
        for seed in (5, 6, 7):
            file.add_from_pillow(Image.fromarray(patches(seed)))
        file.save(folder / f"{number}.heic", quality=100, primary_index=primary, chroma=444)
    found = manifest_images(cli_inprocess, folder)
    for name, seed in (("0", 6), ("1", 5)):
        difference = np.abs(found[name].astype(int) - patches(seed))[2::4, 2::4]
        assert difference.mean() < 4
