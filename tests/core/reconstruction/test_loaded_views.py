"""Pictures as the student gets them, and back to the full-size ones."""

from dataclasses import replace
from importlib import util

import numpy as np
import pytest
import torch
from colors import icc_profile
from PIL import Image

from distill3r_core.errors import ImageError, NothingUsableError, RequestError
from distill3r_core.io.exports.upright_images import write_upright
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.io.images.inputs import InputFile, find_inputs
from distill3r_core.models import build_student
from distill3r_core.reconstruction.export import save_reconstruction
from distill3r_core.reconstruction.loaded_views import full_size_images, load_views, views_of_images
from distill3r_core.reconstruction.preview import PreviewRow, write_preview
from distill3r_core.reconstruction.reconstruct import reconstruct
from distill3r_core.report import Silent

FIT = ImageFit(size=(28, 42))


def _picture(size=(64, 48), *, seed=0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def test_views_have_names_of_their_own_that_colmap_can_write(tmp_path):
    for name in ("a b.jpg", "A_b.png", "a/x.jpg", "b/x.jpg", "b/x.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        _picture().save(tmp_path / name)
    inputs = [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "b")]
    names = [view.name for view in load_views(find_inputs(inputs).sources, FIT).views]
    assert len({name.casefold() for name in names}) == len(names) == 5
    assert not any(" " in name or "/" in name for name in names)


def test_a_heic_photo_is_a_view(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.HEIC"
    heif.from_pillow(_picture()).save(path)
    loaded = load_views([InputFile(path, "image")], FIT)
    assert [view.size for view in loaded.views] == [(48, 64)] and not loaded.failed


def test_notes_and_views_come_in_one_order_however_fast_threads_are(tmp_path):
    for index in range(24):
        frames = [_picture(seed=index + frame) for frame in range(2)]
        frames[0].save(tmp_path / f"v{index}.gif", save_all=True, append_images=frames[1:])
    told = Silent()
    views = load_views(find_inputs([str(tmp_path)]).sources, FIT, progress=told).views
    assert [view.name for view in views] == [f"v{index}" for index in range(24)]
    assert told.notes == sorted(told.notes) and len(told.notes) == 24


def test_full_pictures_are_the_ones_that_were_fitted(tmp_path, data_dir):
    _picture().save(tmp_path / "a.png")
    views = load_views(find_inputs([str(tmp_path)]).sources, FIT).views
    if util.find_spec("av"):
        views += load_views(
            [InputFile(data_dir / "video/kitchen.mp4", "video")], FIT, max_views=3
        ).views
    seen = {
        view.name: np.asarray(Image.fromarray(pixels).resize((42, 28), Image.Resampling.LANCZOS))
        for view, pixels in full_size_images(views)
    }
    assert list(seen) == [view.name for view in views]
    for view in views:
        assert np.abs(seen[view.name].astype(int) - view.fitted.image).mean() < 3


def test_a_picture_that_changed_while_a_run_went_on_is_no_picture_of_the_view(tmp_path):
    _picture().save(tmp_path / "a.png")
    views = load_views(find_inputs([str(tmp_path)]).sources, FIT).views
    Image.new("RGB", (100, 200)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="changed in the meantime"):
        list(full_size_images(views))


def test_a_video_that_became_shorter_is_named(tmp_path, data_dir):
    pytest.importorskip("av")
    clip = InputFile(data_dir / "video/kitchen.mp4", "video")
    (view,) = load_views([clip], FIT, max_views=1).views
    with pytest.raises(ImageError, match="fewer frames"):
        list(full_size_images([replace(view, frame=10_000)]))


@pytest.mark.parametrize(
    ("name", "options", "copied"),
    [
        ("a.jpg", {"quality": 80}, True),
        ("a.png", {}, True),
        ("clear.png", {"transparency": (0, 0, 0)}, False),
        ("a.webp", {}, False),
        ("turned.jpg", {"orientation": 6}, False),
        ("odd.jpg", {"orientation": 99}, False),
    ],
)
def test_upright_pictures_are_copied_byte_by_byte_and_others_written_anew(
    tmp_path, name, options, copied
):
    source = tmp_path / name
    exif = Image.Exif()
    if turn := options.pop("orientation", None):
        exif[0x0112] = turn
    _picture().save(source, exif=exif, **options)
    view = load_views([InputFile(source, "image")], FIT).views[0]
    (_, pixels) = next(full_size_images([view]))
    written = write_upright(tmp_path / "images", "view", pixels, source=source, keep_exif=True)
    assert (written.read_bytes() == source.read_bytes()) is copied
    with Image.open(written) as image:
        assert image.getexif().get(0x0112, 1) == 1
        assert np.abs(np.asarray(image, int) - pixels).mean() < 3


def test_from_python_what_is_no_list_of_pictures_is_refused(tmp_path):
    student = build_student("tiny").eval()
    with pytest.raises(TypeError, match="a list of images"):
        reconstruct(str(tmp_path), student, fit=FIT)
    with pytest.raises(NothingUsableError, match="no images"):
        reconstruct([], student, fit=FIT)


def test_from_python_a_picture_of_pillow_is_turned_upright(tmp_path):
    student, exif = build_student("tiny").eval(), Image.Exif()
    exif[0x0112] = 6
    _picture().save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        ours, theirs = reconstruct([opened, tmp_path / "a.png"], student, fit=FIT).views
    assert np.array_equal(ours.loaded.fitted.image, theirs.loaded.fitted.image)
    assert ours.loaded.size == theirs.loaded.size


def test_from_python_colors_alpha_and_masks_are_those_of_infer(tmp_path):
    layer = _picture((40, 60)).convert("RGBA")
    alpha = np.full((60, 40), 255, np.uint8)
    alpha[:30] = 0
    layer.putalpha(Image.fromarray(alpha))
    wide = tmp_path / "wide.png"
    layer.save(wide, icc_profile=icc_profile("ProPhoto"))
    right = np.zeros((60, 40), bool)
    right[:, 20:] = True
    Image.fromarray(right).save(tmp_path / "right.png")
    plain = np.asarray(_picture((40, 60)))
    with Image.open(wide) as opened:
        views = views_of_images(
            [wide, opened, opened, plain, plain],
            [None, None, right, right, tmp_path / "right.png"],
            FIT,
        )
    in_file = load_views([InputFile(wide, "image")], FIT).views[0]
    for view in views[:3]:
        np.testing.assert_array_equal(view.fitted.image, in_file.fitted.image)
    assert np.abs(views[0].fitted.image.astype(int) - views[3].fitted.image).max() > 10
    bottom, half = np.zeros((42, 28), bool), np.zeros((42, 28), bool)
    bottom[21:], half[:, 14:] = True, True
    wanted = [bottom, bottom, bottom & half, half, half]
    for view, mask in zip(views, wanted, strict=True):
        np.testing.assert_array_equal(view.mask, mask)
    assert [view.name for view in views] == ["wide", *(f"view_00{n}" for n in (1, 2, 3, 4))]


def test_from_python_blank_images_and_unusable_masks_are_refused_by_name(tmp_path):
    student, gray = build_student("tiny").eval(), np.full((48, 64, 3), 90, np.uint8)
    pixels = np.asarray(_picture())
    cases = [
        ([pixels, gray], None, "view_001: blank"),
        ([Image.fromarray(gray)], None, "view_000: blank"),
        ([pixels], [np.zeros(pixels.shape[:2], bool)], "view_000: its mask leaves no pixel"),
        ([pixels], [np.ones((9, 9), bool)], "view_000: its mask is 9x9 pixels"),
    ]
    for images, masks, message in cases:
        with pytest.raises(ImageError, match=message):
            reconstruct(images, student, fit=FIT, masks=masks)
    with pytest.raises(RequestError, match="2 masks do not fit 1 images"):
        reconstruct([pixels], student, fit=FIT, masks=[None, None])


def test_from_python_paths_and_pixels_become_a_reconstruction(tmp_path):
    torch.manual_seed(0)
    student = build_student("tiny").eval()
    _picture().save(tmp_path / "a.png")
    upright = np.asarray(_picture((48, 64), seed=1))
    scene = reconstruct([tmp_path / "a.png", upright], student, fit=FIT)
    assert [camera.name for camera in scene.cameras] == ["a", "view_001"]
    assert [view.aligned.local_map.points.shape for view in scene.views] == [
        (28, 42, 3),
        (42, 28, 3),
    ]
    files = save_reconstruction(scene, tmp_path / "out", ("colmap",))
    assert tmp_path / "out/images/view_001.jpg" in files
    with pytest.raises(ValueError, match="fit="):
        reconstruct([upright], student)
    (tmp_path / "b.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"b\.png"):
        reconstruct([tmp_path / "b.png"], student, fit=FIT)


def test_the_focal_length_that_a_camera_wrote_is_a_fact_of_its_view(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 27  # millimeters, of film 36 wide
    _picture((64, 48)).save(tmp_path / "a.jpg", exif=exif)
    _picture((64, 48), seed=1).save(tmp_path / "b.jpg")
    views = load_views(find_inputs([str(tmp_path)]).sources, FIT).views
    assert [view.exif_focal for view in views] == [48.0, None]
    student = build_student("tiny").eval()
    scene = reconstruct([tmp_path / "a.jpg", tmp_path / "b.jpg"], student, fit=FIT)
    facts = [camera.facts for camera in scene.cameras]
    assert [fact["exif_focal"] for fact in facts] == [48.0, None]
    # The points of random weights fit no camera.
    assert scene.cameras[0].intrinsics[0, 0] == 48.0
    assert [fact["focal_source"].split()[0] for fact in facts] == ["exif:", "guessed"]


def test_the_preview_shows_photo_depth_and_confidence_of_each_view(tmp_path):
    views = views_of_images([np.asarray(_picture())] * 2, [None] * 2, FIT)
    near_left, flat = np.tile(np.linspace(1, 3, 42), (28, 1)), np.full((28, 42), 2.0)
    flat[:, 30:] = 5.0
    shown = [PreviewRow(views[0], near_left, flat), PreviewRow(views[1], near_left[:, ::-1], flat)]
    with Image.open(write_preview(tmp_path, shown)) as opened:
        preview = np.asarray(opened.convert("L"), float)
    assert opened.size == (3 * 200 + 4 * 6, 18 + 6 + 2 * (150 + 6 + 18))
    for row, sign in enumerate((-1, 1)):
        top = 18 + row * (150 + 6 + 18)
        depth, confidence = (
            preview[top : top + 150, left : left + 200] for left in (6 + 206, 6 + 2 * 206)
        )
        # Near is bright, in this view's own range; confidences share theirs.
        assert (sign * np.diff(depth[75]) >= 0).all()
        assert abs(depth[75, 0] - depth[75, -1]) > 100
        assert confidence[75, 20] < confidence[75, 180] - 100
