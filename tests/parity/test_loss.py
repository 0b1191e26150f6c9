"""The loss in its released reading, held to values and gradients recorded from the release."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from distill3r_core.losses import DistillationLoss
from distill3r_core.types import PointMaps, TeacherTargets

WEIGHTINGS = {
    "teacher_confidence": "released",
    "no_confidence": "none",
    "student_confidence": "student",
}
GRADIENTS = {
    "points_global": "grad_xyz_global",
    "points_local": "grad_xyz_local",
    "confidence_global": "grad_conf_global",
    "confidence_local": "grad_conf_local",
}
SHARE_OF_MAX = 1e-4


def test_every_recorded_case_gives_the_recorded_values_and_gradients(golden_dir: Path) -> None:
    record = json.loads((golden_dir / "distill_loss.json").read_text())
    arrays = np.load(golden_dir / "distill_loss.npz")
    draw = _weights(golden_dir)
    assert set(record["results"]) == set(record["cases"])
    for case, variants in record["results"].items():
        assert set(variants) == set(WEIGHTINGS)
        for variant, expected in variants.items():
            predicted, targets = _inputs(record, draw, case)
            loss = DistillationLoss(
                alpha_global=record["alpha_g"],
                alpha_local=record["alpha_l"],
                gamma=record["gamma"],
                weighting=WEIGHTINGS[variant],
                reduction="released",
            )
            terms = loss(predicted, targets)
            terms.total.backward()
            # The release gives NaN where NaN is masked: there the numbers of `masked` are right.
            source = "masked" if case == "nan_targets_at_masked_pixels" else case
            expected = variants if source == case else record["results"][source]
            expected = expected[variant]
            found = {
                "global": terms.points_global,
                "local": terms.points_local,
                "confidence": terms.confidence,
                "total": terms.total,
            }
            for name, value in found.items():
                where = f"{case}/{variant}/{name}"
                if expected[name] == "nan":
                    assert math.isfinite(value.item()), where
                else:
                    assert value.item() == pytest.approx(float(expected[name]), rel=1e-5), where
            for name, key in GRADIENTS.items():
                gradient = getattr(predicted, name).grad
                assert gradient.isfinite().all(), f"{case}/{variant}/{name}"
                recorded = f"{source}/{variant}/{key}"
                if recorded in arrays.files:
                    wanted = torch.from_numpy(arrays[recorded])
                    error = (gradient - wanted).abs().max() / wanted.abs().max()
                    assert error < SHARE_OF_MAX, recorded


def test_no_valid_pixel_at_all_is_no_loss(golden_dir: Path) -> None:
    record = json.loads((golden_dir / "distill_loss.json").read_text())
    predicted, targets = _inputs(record, _weights(golden_dir), "no_valid_pixels")
    assert DistillationLoss(reduction="released")(predicted, targets).total == 0


def _weights(golden_dir: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "golden_weights", golden_dir / "golden_weights.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _inputs(record: dict, draw: ModuleType, case: str) -> tuple[PointMaps, TeacherTargets]:
    shape = tuple(record[axis] for axis in "BNHW")
    offset = np.array(record["inputs"]["offset"], np.float32)

    def normal(name: str, *more: int) -> np.ndarray:
        return draw.tensor_for(f"input/loss/{name}", (*shape, *more), record["seed"])

    points = {
        "global": np.float32(1.5) * normal("target_global", 3) + offset,
        "local": np.float32(1.2) * normal("target_local", 3) + offset,
    }
    factor = {"global": np.float32(0.7), "local": np.float32(1.6)}
    mine = {
        f"points_{side}": factor[side] * points[side] + np.float32(0.3) * normal(f"pred_{side}", 3)
        for side in points
    }
    for side in points:
        mine[f"confidence_{side}"] = 1 + np.exp(2 * normal(f"pred_conf_{side}"))
    confidence = {side: 1 + np.exp(2 * normal(f"target_conf_{side}")) for side in points}
    mask = normal("mask") > np.float32(-0.7)
    if case in ("all_valid", "no_valid_pixels"):
        mask = np.full_like(mask, case == "all_valid")
    if case == "one_view_without_valid_pixels":
        mask[0, 1] = False
    if case == "nan_targets_at_masked_pixels":
        for side in points:
            points[side][~mask] = np.nan
    samples = slice(0, 1) if case == "first_sample_only" else slice(None)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[samples]))

    predicted = PointMaps(**{name: tensor(array).requires_grad_() for name, array in mine.items()})
    maps = tensor(mask)
    targets = TeacherTargets(
        points_local=tensor(points["local"]),
        confidence_local=tensor(confidence["local"]),
        confidence_global=tensor(confidence["global"]),
        valid_mask=maps,
        global_from_local=torch.eye(3, 4).expand(*maps.shape[:2], 3, 4),
        stored_points_global=tensor(points["global"]),
    )
    return predicted, targets
