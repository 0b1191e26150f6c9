"""Alignment and focal lengths against recorded results (centers of pixels at 0)."""

import json

import numpy as np
import pytest
import torch

from distill3r_core.geometry.focal import estimate_focal, estimate_focal_median
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "geometry.npz") as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


@pytest.fixture(scope="module")
def facts(golden_dir):
    return json.loads((golden_dir / "geometry.json").read_text())


def confident(confidence: torch.Tensor, quantile: float) -> torch.Tensor:
    """Per view, the pixels at or above a quantile of their confidence."""
    levels = torch.quantile(confidence.flatten(-2), quantile, dim=-1)
    return confidence >= levels[..., None, None]


def test_alignments_are_the_recorded_ones(golden):
    local, target = golden["pts3d_local"], golden["pts3d_global"]
    recorded = [name for name in golden if name.startswith("similarity_p")]
    assert recorded
    for name in recorded:
        percent = name.removeprefix("similarity_p")
        votes = confident(golden["conf_global"], int(percent) / 100).flatten(-2).float()
        found = fit_similarity(local.flatten(1, 2), target.flatten(1, 2), votes)
        np.testing.assert_allclose(found, golden[name], rtol=0, atol=1e-4)
        aligned = apply_similarity(found, local)
        np.testing.assert_allclose(aligned, golden[f"aligned_p{percent}"], rtol=0, atol=1e-4)


def test_plain_focal_lengths_are_the_recorded_ones(golden):
    local = golden["pts3d_local"]
    weiszfeld = estimate_focal(local, center=0.0, rounds=10)
    np.testing.assert_allclose(weiszfeld, golden["focal_plain_weiszfeld"], rtol=1e-5)
    median = estimate_focal_median(local, center=0.0)
    np.testing.assert_allclose(median, golden["focal_plain_median"], rtol=1e-5)


def test_confident_focal_lengths_are_the_recorded_ones(golden):
    mask = confident(golden["conf_local"], 0.1)
    found = estimate_focal(golden["pts3d_local"], mask, center=0.0)
    np.testing.assert_allclose(found, golden["focal_confident_local"], rtol=1e-5)
    mask = confident(golden["conf_global"][:1], 0.1)
    found = estimate_focal(golden["pts3d_global"][:1], mask, center=0.0)
    np.testing.assert_allclose(found, golden["focal_confident"], rtol=1e-5)


def test_the_recorded_scene_has_the_focal_length_it_was_made_with(golden, facts):
    sure = confident(golden["conf_global"][:1], 0.1)
    found = estimate_focal(golden["pts3d_global"][:1], sure, center=0.0)
    assert abs(found.item() / facts["true_focal"] - 1) < 0.01
