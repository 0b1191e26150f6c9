"""The release's preprocessing, held to recorded pictures."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image
from recorded import generate

from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.fit import ImageFit, release_image
from distill3r_core.io.images.teacher_fit import (
    DUST3R_FIT,
    TeacherFit,
    prepare_image,
    teacher_placement,
)

PATCH = 16  # of the release's teacher, Fast3R
LYING = (5, 6, 7, 8)  # EXIF orientations that swap rows and columns
SAME_PILLOW, OTHER_PILLOW = 1e-5, 2 * 2 / 255  # pictures are in [-1, 1]


def test_every_recorded_variant_of_every_picture(golden_dir: Path, tmp_path: Path) -> None:
    facts = json.loads((golden_dir / "preprocess.json").read_text())
    arrays = np.load(golden_dir / "preprocess.npz")
    stride = int(re.findall(r"::(\d+)", facts["stored"])[0])
    checked = set()
    for name, case in facts["images"].items():
        path = tmp_path / f"{name}.png"
        _save(path, generate(facts["generator"], case["width"], case["height"]), case)
        pixels = read_image(path).pixels
        for variant, (fit, whole) in _variants(facts, case).items():
            if whole:
                image = release_image(pixels, fit)
            else:
                image = prepare_image(pixels, fit.teacher)[0].astype(np.float32)
                assert teacher_placement(pixels.shape[:2], fit.teacher).size == image.shape[:2]
            normalized = (image / 255 - 0.5) / 0.5
            found = normalized.transpose(2, 0, 1)[:, ::stride, ::stride]
            _compare(found, arrays[f"{name}/{variant}"], f"{name}/{variant}")
            checked.add(f"{name}/{variant}")
            if f"{variant}_HxW" in case:
                assert list(image.shape[:2]) == case[f"{variant}_HxW"]
    assert checked == set(arrays.files), "a recorded variant was not looked at"


def test_the_teacher_keeps_the_size_that_is_recorded(golden_dir: Path) -> None:
    facts = json.loads((golden_dir / "preprocess.json").read_text())
    for case in facts["images"].values():
        source = (case["height"], case["width"])
        if case["exif_orientation"] in LYING:
            source = source[::-1]
        teacher = teacher_placement(source, _variants(facts, case)["teacher"][0].teacher)
        assert [list(teacher.size)] == case["true_shape"]
        large = teacher_placement(source, _variants(facts, case)["student_inference"][0].teacher)
        name = next(key for key in case if re.fullmatch(r"size\d+_HxW", key))
        assert list(large.size) == case[name]


@pytest.mark.parametrize(
    ("source", "size"),
    [((480, 640), (384, 512)), ((300, 1000), (144, 512)), ((99, 99), (384, 512))],
)
def test_the_table_of_sizes(source: tuple[int, int], size: tuple[int, int]) -> None:
    assert teacher_placement(source, replace(DUST3R_FIT, multiple=PATCH)).size == size


def _variants(facts: dict, case: dict) -> dict[str, tuple[ImageFit, bool]]:
    """The chain of each recorded variant, and whether the student's half of it is in it."""
    named = facts["arrays"]
    (teacher,) = re.findall(r"size (\d+)", named["teacher"])
    (training,) = re.findall(r"size (\d+)", named["student_training"])
    (inference,) = re.findall(r"size (\d+)", named["student_inference"])
    (square,) = (key for key in named if re.fullmatch(r"teacher_size\d+", key))
    size = tuple(case["student_training_HxW"])
    inference_size = tuple(case["student_inference_HxW"])

    def cropped(long_edge: str) -> TeacherFit:
        return TeacherFit(long_edge=int(long_edge), multiple=PATCH, square_to_4x3=True)

    whole_square = TeacherFit(long_edge=int(square[len("teacher_size") :]), square=True)
    return {
        "teacher": (ImageFit(size, "release", cropped(teacher)), False),
        square: (ImageFit(size, "release", whole_square), False),
        "student_training": (ImageFit(size, "release", cropped(training)), True),
        "student_inference": (
            ImageFit(inference_size, "release-inference", cropped(inference)),
            True,
        ),
    }


def _save(path: Path, pixels: np.ndarray, case: dict) -> None:
    exif = Image.Exif()
    exif[0x0112] = case["exif_orientation"]
    Image.fromarray(pixels).save(path, exif=exif)


def _compare(found: np.ndarray, recorded: np.ndarray, name: str) -> None:
    assert found.shape == recorded.shape, name
    error = np.abs(found - recorded)
    if PIL.__version__.split(".")[0] == "13":  # the version that recorded them
        assert error.max() <= SAME_PILLOW, f"{name}: {error.max()}"
    else:
        assert error.max() <= OTHER_PILLOW, f"{name}: {error.max()}"
        assert np.mean(error > SAME_PILLOW) < 0.01, name
