"""Pictures are fitted as they are said to be, and the placement tells the truth about it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill3r_core.errors import ConfigError, ImageError
from distill3r_core.io.images.fit import (
    ImageFit,
    fit_image,
    is_portrait,
    resize_image,
    student_placement,
)
from distill3r_core.io.images.teacher_fit import (
    DUST3R_FIT,
    TeacherFit,
    prepare_image,
    teacher_placement,
)

SIZES = st.tuples(st.integers(40, 900), st.integers(40, 900))
MODES = st.sampled_from(["squash", "crop", "release", "release-inference"])


def ramp(height: int, width: int) -> np.ndarray:
    """Red tells the column and green the row, as fractions."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([(x + 0.5) / width, (y + 0.5) / height, np.zeros_like(x, float)], axis=-1)
    return np.rint(255 * rgb).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(source=SIZES, mode=MODES, portrait=st.booleans(), long_edge=st.sampled_from([None, 96]))
def test_pixels_lie_where_the_placement_says(source, mode, portrait, long_edge) -> None:
    fit = ImageFit(size=(56, 84), mode=mode, teacher=TeacherFit(long_edge=long_edge, multiple=8))
    try:
        fitted = fit_image(ramp(*source), fit, portrait=portrait)
    except ImageError:
        assert min(source) / max(source) * 96 < 8.5 or min(source) < 16
        return
    place, (height, width) = fitted.placement, source
    assert fitted.image.shape[:2] == place.size
    left, top, right, bottom = place.box
    assert 0 <= left < right <= width + 1e-6
    assert 0 <= top < bottom <= height + 1e-6
    image = fitted.image.transpose(1, 0, 2) if place.transposed else fitted.image
    rows, columns = image.shape[:2]
    x = (left + (np.arange(columns) + 0.5) * (right - left) / columns) / width * 255
    y = (top + (np.arange(rows) + 0.5) * (bottom - top) / rows) / height * 255
    inner = slice(4, -4)  # the filters meet the rim
    assert np.abs(image[rows // 2, :, 0].astype(float) - x)[inner].max() < 6
    assert np.abs(image[:, columns // 2, 1].astype(float) - y)[inner].max() < 6


@settings(max_examples=60, deadline=None)
@given(source=SIZES, multiple=st.sampled_from([1, 14, 16]), long_edge=st.sampled_from([None, 224]))
def test_the_teacher_gets_whole_patches(source, multiple, long_edge) -> None:
    fit = TeacherFit(long_edge=long_edge, multiple=multiple)
    try:
        image, place = prepare_image(ramp(*source), fit)
    except ImageError:
        return
    assert image.shape[:2] == place.size
    assert all(side % multiple == 0 for side in place.size)


def test_the_student_sees_no_more_than_the_teacher() -> None:
    fit = ImageFit(size=(224, 518), teacher=DUST3R_FIT)
    for portrait in (False, True):
        for source in ((480, 640), (640, 480), (300, 1000), (769, 1024)):
            seen = teacher_placement(source, fit.teacher).box
            shown = student_placement(source, fit, portrait=portrait).box
            assert shown[0] >= seen[0]
            assert shown[1] >= seen[1]
            assert shown[2] <= seen[2]
            assert shown[3] <= seen[3]


def test_squash_shows_the_whole_picture_at_its_own_orientation() -> None:
    fit = ImageFit(size=(224, 518))
    assert student_placement((480, 640), fit, portrait=False).box == (0, 0, 640, 480)
    upright = student_placement((640, 480), fit, portrait=True)
    assert upright.box == (0, 0, 480, 640)
    assert upright.size == (518, 224)


def test_a_portrait_picture_among_landscape_ones_is_cropped_to_their_aspect() -> None:
    place = student_placement((640, 480), ImageFit(size=(224, 518)), portrait=False)
    assert place.size == (224, 518)
    left, top, right, bottom = place.box
    assert (right - left) / (bottom - top) == pytest.approx(4 / 3)
    assert (left, right) == (0, 480)
    assert top + bottom == pytest.approx(640)


def test_crop_keeps_the_aspect() -> None:
    place = student_placement((480, 640), ImageFit(size=(100, 200), mode="crop"), portrait=False)
    assert place.box == (0, 80, 640, 400)


def test_release_transposes_portrait_pictures_and_its_inference_squashes_them() -> None:
    portrait = ramp(640, 480)
    training = fit_image(
        portrait, ImageFit(size=(56, 84), mode="release", teacher=DUST3R_FIT), portrait=True
    )
    assert training.placement.transposed
    assert training.image.shape == (56, 84, 3)
    assert training.image[-1, 0, 0] > 240  # the last column became the last row
    script = fit_image(
        portrait,
        ImageFit(
            size=(56, 84), mode="release-inference", teacher=replace(DUST3R_FIT, long_edge=518)
        ),
        portrait=True,
    )
    assert not script.placement.transposed
    assert script.image[-1, 0, 1] > 240


def test_the_plain_resize_ends_the_chain() -> None:
    cached = fit_image(ramp(480, 640), ImageFit(size=(84, 112)), portrait=False)
    small = fit_image(ramp(480, 640), ImageFit(size=(84, 112), resized=(42, 70)), portrait=False)
    np.testing.assert_array_equal(small.image, resize_image(cached.image, (42, 70)))
    assert small.placement.box == cached.placement.box
    upright = fit_image(ramp(640, 480), ImageFit(size=(84, 112), resized=(42, 70)), portrait=True)
    assert upright.placement.size == (70, 42)


def test_a_fit_comes_back_from_plain_data() -> None:
    fit = ImageFit(size=(224, 518), mode="crop", teacher=DUST3R_FIT, resized=(112, 154))
    assert ImageFit.from_plain(fit.as_plain()) == fit
    with pytest.raises(ConfigError, match="sise"):
        ImageFit.from_plain({"sise": [1, 2]})


def test_most_pictures_decide_and_squares_are_landscape() -> None:
    assert is_portrait([(4, 3), (4, 3), (3, 4)])
    assert not is_portrait([(4, 3), (3, 4)])
    assert not is_portrait([(3, 3)])


def test_a_picture_thinner_than_a_patch_is_refused() -> None:
    with pytest.raises(ImageError, match="the least is 16"):
        teacher_placement((14, 1000), DUST3R_FIT)


@settings(max_examples=60, deadline=None)
@given(
    source=SIZES,
    reach=st.sampled_from(["crop", "pad", "resize"]),
    square=st.booleans(),
    resampling=st.sampled_from(["lanczos", "bicubic"]),
)
def test_a_teachers_input_shows_what_its_placement_says(source, reach, square, resampling) -> None:
    fit = TeacherFit(long_edge=224, square=square, multiple=14, reach=reach, resampling=resampling)
    try:
        image, place = prepare_image(ramp(*source), fit)
    except ImageError:
        assert reach == "crop"
        return
    rows, columns = place.size
    assert image.shape[:2] == place.size
    assert rows % 14 == columns % 14 == 0
    assert not square or (rows, columns) == (224, 224)
    left, top, right, bottom = place.box
    x = (left + (np.arange(columns) + 0.5) * (right - left) / columns) / source[1] * 255
    y = (top + (np.arange(rows) + 0.5) * (bottom - top) / rows) / source[0] * 255
    for axis, (line, wanted) in enumerate(
        ((image[rows // 2, :, 0], x), (image[:, columns // 2, 1], y))
    ):
        inside = (wanted > 12) & (wanted < 243)  # the filters meet the rim
        assert np.abs(line.astype(float) - wanted)[inside].max() < 6, axis
        outside = (wanted < -4) | (wanted > 259)
        assert (line[outside] == 255).all()  # white
    assert reach == "pad" or not (x.min() < 0 or x.max() > 255 or y.min() < 0 or y.max() > 255)


@pytest.mark.parametrize(("reach", "size"), [("crop", (140, 224)), ("pad", (154, 224))])
def test_sides_between_two_multiples_are_cropped_padded_or_resized(reach, size) -> None:
    fit = TeacherFit(long_edge=224, multiple=14, reach=reach)
    assert teacher_placement((300, 450), fit).size == size  # 149 x 224 after the resize


def test_a_side_half_way_between_two_multiples_grows() -> None:
    fit = TeacherFit(multiple=14, reach="resize")
    assert teacher_placement((189, 188), fit).size == (196, 182)


def test_a_student_is_never_shown_a_teachers_padding() -> None:
    fit = ImageFit(size=(56, 84), teacher=TeacherFit(long_edge=224, square=True, reach="pad"))
    assert student_placement((300, 450), fit, portrait=False).box == (0, 0, 450, 300)
