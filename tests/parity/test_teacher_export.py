"""The whole export on synthetic predictions, against what the release's exporter wrote."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill3r_core.io.images.teacher_fit import DUST3R_FIT, teacher_placement
from distill3r_core.teachers.targets import make_targets
from distill3r_core.types import RawMaps

SMALLEST_NORMAL = 2**-14  # of float16; below it the step no longer shrinks
FLOAT32_NOISE = 2e-7


@pytest.fixture(scope="module")
def facts(golden_dir):
    return json.loads((golden_dir / "teacher_export.json").read_text())


@pytest.fixture(scope="module")
def draw(golden_dir, facts):
    spec = importlib.util.spec_from_file_location(
        "golden_weights", golden_dir / "golden_weights.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name, shape: torch.from_numpy(module.tensor_for(name, shape, facts["seed"]))


def prediction(draw, number, sizes) -> RawMaps:
    """What the recorded export was given: the formulas of the JSON's `inputs`."""
    local, doubt, wide, confidence = [], [], [], []
    for view, (height, width) in enumerate(sizes):
        name = f"input/export/sample{number}/view{view}"
        points = 0.5 * draw(f"{name}/local", (1, height, width, 3)) + torch.tensor([0.0, 0, 4])
        c, s = math.cos(0.3 * view), math.sin(0.3 * view)
        turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        moved = 1.5 * points @ turn.T + torch.tensor([0.2 * view, -0.1, 0.3])
        moved = moved + 0.05 * draw(f"{name}/global", (1, height, width, 3))
        local.append(points[0])
        wide.append(moved[0])
        confidence.append((1.2 * draw(f"{name}/conf_local", (1, height, width))).exp()[0])
        doubt.append(1 + draw(f"{name}/conf_global", (1, height, width)).exp()[0])
    return RawMaps(local, confidence, doubt, points_global=wide)


def runs(mask: np.ndarray) -> list[int]:
    """Start and length of every run of true pixels, row by row."""
    edges = np.flatnonzero(np.diff(mask.ravel(), prepend=False, append=False))
    return [int(n) for start, stop in edges.reshape(-1, 2) for n in (start, stop - start)]


def float16_steps(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The distance of two arrays in steps of float16 at the recorded value, beyond the noise.

    A coordinate near 0 is the difference of numbers of the size of the largest one, so it carries
    their float32 noise, which may be many of its own small steps.
    """
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    power = np.exp2(np.floor(np.log2(np.maximum(np.abs(b), SMALLEST_NORMAL))))
    noise = FLOAT32_NOISE * np.abs(b).max()
    return np.maximum(np.abs(a - b) - noise, 0) / (power * 2**-10)


def test_every_recorded_sample_is_exported_as_the_release_did(golden_dir, facts, draw):
    stored = np.load(golden_dir / "teacher_export.npz")
    # The original loads a picture at this long edge, cropped to whole patches.
    loaded = replace(DUST3R_FIT, long_edge=facts["load_size"])
    sizes = [
        teacher_placement((height, width), loaded).size
        for width, height in facts["image_sizes_WxH"]
    ]
    for name, sample in facts["samples"].items():
        views = sample["sampled_views_json"]
        frames = [
            int("".join(filter(str.isdigit, Path(path).stem)))
            for path in views["sampled_image_paths"]
        ]
        raw = prediction(draw, views["sample_id"], [sizes[frame] for frame in frames])
        targets = make_targets(
            raw,
            size=tuple(facts["target_HxW"]),
            threshold=0.3,
            threshold_on="confidence",
            resample="release",
        ).targets
        valid = targets.valid_mask.numpy()
        assert [runs(mask) for mask in valid] == sample["masks"], name
        as_stored = {
            "xyz_local": np.where(valid[..., None], targets.points_local, np.nan),
            "xyz_global": np.where(valid[..., None], targets.points_global, np.nan),
            "conf_local": np.where(valid, targets.confidence_local, 0),
            "conf_global": np.where(valid, targets.confidence_global, 0),
        }
        for key, ours in as_stored.items():
            ours, theirs = ours.astype(np.float16), stored[f"{name}/{key}"]
            assert ours.shape == theirs.shape
            assert np.array_equal(np.isnan(ours), np.isnan(theirs)), f"{name}/{key}"
            there = ~np.isnan(theirs)
            steps = float16_steps(ours[there], theirs[there])
            assert steps.max() <= 2, f"{name}/{key}"
            assert (steps > 0).mean() < 0.01, f"{name}/{key}"
