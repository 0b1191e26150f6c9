"""The preprocessing of Depth Anything 3, held to recorded images."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from recorded import generate, load_arrays, load_json

from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.io.images.teacher_fit import (
    DA3_FIT,
    common_windows,
    prepare_image,
    teacher_placement,
)

MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
ONE_LEVEL = 1 / 255 / DEVIATION.min() + 1e-6  # the recorded values are normalized
FEW = 2e-3  # share of values that may be off by it, where a tie is rounded the other way


def fit_of(method):
    bound, reach, length = re.fullmatch(r"(upper|lower)_bound_(resize|crop)_(\d+)", method).groups()
    edge = {"upper": "long_edge", "lower": "short_edge"}[bound]
    return replace(DA3_FIT, **{"long_edge": None, edge: int(length)}, reach=reach)


@pytest.fixture(scope="module")
def facts(golden_dir):
    return load_json(golden_dir, "da3_preprocess")


@pytest.fixture(scope="module")
def arrays(golden_dir):
    return load_arrays(golden_dir, "da3_preprocess")


def normalized(image) -> np.ndarray:
    return ((image / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


def compare(found, wanted, name) -> None:
    assert found.shape == wanted.shape, name
    difference = np.abs(found - wanted)
    assert difference.max() <= ONE_LEVEL, name
    assert (difference > 1e-5).mean() <= FEW, name


def test_da3_preprocess_every_recorded_image(facts, arrays):
    steps = {"upper_bound_resize_504": 7}
    assert facts["stored"].count("::7, ::7") == 1, "the strides are read from this sentence"
    checked = {"mixed"}
    for name, case in facts["images"].items():
        pixels = generate(facts["generator"], case["width"], case["height"])
        for method, result in case["results"].items():
            fit = fit_of(method)
            image, placement = prepare_image(pixels, fit)
            assert list(image.shape[:2]) == result["HxW"], (name, method)
            assert placement == teacher_placement(pixels.shape[:2], fit)
            moved = place_intrinsics(torch.tensor(case["intrinsics_in"]).double(), placement)
            np.testing.assert_allclose(moved, result["intrinsics"], rtol=1e-6)
            if f"{name}/{method}" in arrays:
                step = steps.get(method, 21)
                found = normalized(image)[:, ::step, ::step]
                compare(found, arrays[f"{name}/{method}"], f"{name}/{method}")
                checked.add(f"{name}/{method}")
    assert checked == set(arrays)


def test_da3_preprocess_images_of_several_sizes(facts, arrays):
    mixed = facts["mixed"]
    images, intrinsics = [], []
    for name in mixed["images"]:
        case = facts["images"][name]
        pixels = generate(facts["generator"], case["width"], case["height"])
        image, placement = prepare_image(pixels, DA3_FIT)
        images.append(image)
        intrinsics.append(
            place_intrinsics(torch.tensor(case["intrinsics_in"]).double(), placement).numpy()
        )
    windows = common_windows([image.shape[:2] for image in images])
    for k, (top, left, _, _) in zip(intrinsics, windows, strict=True):
        k[:2, 2] -= (left, top)
    np.testing.assert_allclose(intrinsics, mixed["intrinsics"], rtol=1e-6)
    cropped = np.stack(
        [
            normalized(image[top : top + rows, left : left + columns])
            for image, (top, left, rows, columns) in zip(images, windows, strict=True)
        ]
    )
    assert list(cropped.shape) == mixed["shape"]
    compare(cropped[:, :, ::14, ::14], arrays["mixed"], "mixed")
