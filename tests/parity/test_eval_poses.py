"""Relative pose errors against the recorded outputs of the published evaluations."""

import math
import re

import numpy as np
import pytest
import torch
from recorded import load_arrays, load_json

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.camera_alignment import (
    align_centers_procrustes,
    align_centers_ransac,
    spread_ratio,
)
from distill3r_core.geometry.pose_errors import (
    PairErrors,
    area_under_curve,
    pair_errors,
    share_below,
)
from distill3r_core.geometry.trajectory import root_mean_square, trajectory_errors

GOLDEN = "eval_poses"
# Our form of each recorded one. SpatialBench's differ by a cast of the errors to float32.
FORMS = {
    "vggt": "vggt",
    "fast3r": "fast3r",
    "pi3": "pi3",
    "da3": "da3",
    "sb": "da3",
    "sb_raw": "da3",
    "sb_c2w": "vggt",
}
AUC = {"AUC": "bins", "AUC_histc": "histc", "AUC_exact": "integral"}
FAILED = 1e5  # degrees: a NaN pose is recorded as a translation error beyond any angle


@pytest.fixture(scope="module")
def recorded(golden_dir):
    return load_json(golden_dir, GOLDEN), load_arrays(golden_dir, GOLDEN)


def _poses(arrays, case) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted and true poses of a case."""
    scene = case.partition("/")[0]
    predicted, truth = (
        torch.from_numpy(arrays[name]) for name in (f"{case}/pred_c2w", f"{scene}/gt_c2w")
    )
    return predicted, truth


def _errors(arrays, case, form) -> PairErrors:
    """Errors of a case in a recorded form."""
    return pair_errors(
        *_poses(arrays, case), form=FORMS[form], move_prediction=not form.endswith("_raw")
    )


def test_eval_poses_has_cases_of_every_form(recorded):
    facts, _ = recorded
    assert facts["results"]
    assert all(FORMS.keys() <= result.keys() for result in facts["results"].values())


@pytest.mark.parametrize("form", FORMS)
def test_eval_poses_errors_of_pairs_are_the_recorded_ones(recorded, form):
    facts, arrays = recorded
    tolerance = facts["tolerances"]["angles, degrees"]
    for case in facts["results"]:
        found = _errors(arrays, case, form)
        rotation = arrays[f"{case}/{form}/rot_deg"]
        translation = arrays[f"{case}/{form}/trans_deg"]
        failed = np.abs(translation) > FAILED
        np.testing.assert_array_equal(found.translation.isnan().numpy(), failed, err_msg=case)
        translation = np.where(failed, np.nan, translation)
        for mine, expected in ((found.rotation, rotation), (found.translation, translation)):
            np.testing.assert_allclose(mine.numpy(), expected, rtol=0, atol=tolerance, err_msg=case)


@pytest.mark.parametrize("form", FORMS)
def test_eval_poses_shares_and_areas_are_the_recorded_ones(recorded, form):
    facts, arrays = recorded
    assert facts["tolerances"]["RRA, RTA, AUC by bins"].startswith("exact")
    tolerance = facts["tolerances"]["AUC histc, integral"]
    for case, result in facts["results"].items():
        found = _errors(arrays, case, form)
        for key, expected in result[form].items():
            name, _, threshold = key.partition("@")
            if name == "RRA":
                assert share_below(found.rotation, float(threshold)) == expected, (case, key)
            elif name == "RTA":
                assert share_below(found.translation, float(threshold)) == expected, (case, key)
            elif name in AUC:
                area = area_under_curve(found.largest, int(threshold), form=AUC[name])
                # Exact counts of pairs: only the order in which their shares are added is free.
                allowed = 1e-14 if AUC[name] == "bins" else tolerance
                assert area == pytest.approx(expected, rel=0, abs=allowed), (case, key)


def test_eval_poses_aggregations_are_the_recorded_ones(recorded):
    facts, arrays = recorded
    categories = facts["aggregation"]["categories"]
    scenes = [scene for names in categories.values() for scene in names]
    for level, published in facts["aggregation"].items():
        if level == "categories":
            continue
        pairs = {
            form: {scene: _errors(arrays, f"{scene}/{level}", form) for scene in scenes}
            for form in ("vggt", "fast3r", "pi3", "da3", "sb")
        }
        pooled = {
            name: torch.cat([getattr(pairs["pi3"][scene], name) for scene in scenes])
            for name in ("rotation", "translation", "largest")
        }
        for key, expected in published["pi3_pooled"].items():
            name, _, threshold = key.partition("_")
            if name == "Auc":
                found = area_under_curve(pooled["largest"], int(threshold))
            else:
                errors = pooled["rotation" if name == "Racc" else "translation"]
                found = share_below(errors, float(threshold))
            assert 100 * found == pytest.approx(expected, abs=1e-4), (level, key)
        for key, expected in published["vggt_category_mean"].items():
            threshold = int(key.partition("_")[2])
            areas = [
                area_under_curve(
                    torch.cat([pairs["vggt"][scene].largest for scene in names]), threshold
                )
                for names in categories.values()
            ]
            assert np.mean(areas) == pytest.approx(expected, abs=1e-6), (level, key)
        for record, form, auc in (
            ("da3_scene_mean", "da3", "bins"),
            ("fast3r_scene_mean", "fast3r", "histc"),
        ):
            for key, expected in published[record].items():
                threshold = int(key.partition("_")[2])
                areas = [
                    area_under_curve(pairs[form][scene].largest, threshold, form=auc)
                    for scene in scenes
                ]
                assert np.mean(areas) == pytest.approx(expected, abs=1e-6), (level, key)
        for key, expected in published["sb_scene_mean"].items():
            figures = [_figure(pairs["sb"][scene], key) for scene in scenes]
            found = {"mean": np.mean(figures), "median": np.median(figures), "std": np.std(figures)}
            assert found == pytest.approx(expected, abs=1e-9), (level, key)


@pytest.mark.parametrize(
    ("form", "record"), [("da3", "compute_pose"), ("sb", "compute_pose_metrics")]
)
def test_eval_poses_dictionaries_are_the_recorded_ones(recorded, form, record):
    facts, arrays = recorded
    for case, result in facts["results"].items():
        errors = _errors(arrays, case, form)
        for key, expected in result[form][record].items():
            assert _figure(errors, key) == pytest.approx(expected, abs=1e-9), (case, key)


def test_eval_poses_trajectories_are_the_recorded_ones(recorded):
    facts, arrays = recorded
    tolerance = facts["tolerances"]["ATE, RPE"]
    for case, result in facts["results"].items():
        errors = trajectory_errors(*_poses(arrays, case))
        means = {
            "ate": root_mean_square(errors.absolute),
            "rpe_t": float(errors.relative_translation.mean()),
            "rpe_r": float(errors.relative_rotation.mean()),
        }
        for record in ("sb", "sb_numpy"):
            expected = {
                key: math.nan if value is None else value
                for key, value in result["trajectory"][record].items()
            }
            assert means == pytest.approx(expected, abs=tolerance, nan_ok=True), (case, record)


def test_eval_poses_trajectories_by_root_mean_squares_are_the_recorded_ones(recorded):
    facts, arrays = recorded
    for case, result in facts["results"].items():
        expected = result["trajectory"]["cut3r_pi3"]
        if isinstance(expected, str):  # undefined where rounding decides: we always refuse
            assert expected.startswith(("raises", "undefined"))
            with pytest.raises(GeometryError):
                trajectory_errors(*_poses(arrays, case), strict=True)
            continue
        errors = trajectory_errors(*_poses(arrays, case), strict=True)
        found = {
            "ate": root_mean_square(errors.absolute),
            "rpe_t": root_mean_square(errors.relative_translation),
            "rpe_r": root_mean_square(errors.relative_rotation),
        }
        assert found == pytest.approx(expected, abs=facts["tolerances"]["ATE, RPE"]), case


@pytest.mark.parametrize(
    ("record", "align"),
    [("da3_align", align_centers_ransac), ("sb_procrustes", align_centers_procrustes)],
)
def test_eval_poses_similarities_of_centers_are_the_recorded_ones(recorded, record, align):
    facts, arrays = recorded
    for case, result in facts["results"].items():
        expected = result["trajectory"][record]
        predicted, truth = (poses[:, :3, 3] for poses in _poses(arrays, case))
        if isinstance(expected, str) or "r" not in expected:  # undefined, or the scale alone
            with pytest.raises(GeometryError):
                align(predicted, truth)
            if not isinstance(expected, str):
                assert spread_ratio(predicted, truth) == pytest.approx(expected["s"], rel=1e-8)
            continue
        linear = expected["s"] * np.array(expected["r"])
        wanted = np.concatenate([linear, np.array(expected["t"])[:, None]], axis=1)
        tolerance = facts["tolerances"]["DA3 similarity"]
        found = align(predicted, truth).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=case)


def _figure(errors: PairErrors, key: str) -> float:
    """A figure by its name in the recorded dictionaries: auc30, auc_30, racc_3 or tacc_3."""
    match = re.fullmatch(r"([a-z]+)_?0?(\d+)", key)
    assert match is not None, key
    name, threshold = match.group(1), float(match.group(2))
    if name == "auc":
        return area_under_curve(errors.largest, int(threshold))
    return share_below({"racc": errors.rotation, "tacc": errors.translation}[name], threshold)
