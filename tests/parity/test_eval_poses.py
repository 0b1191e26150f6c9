"""Relative pose errors against the recorded outputs of the published evaluations."""

import numpy as np
import pytest
import torch
from recorded import load_arrays, load_json

from distill3r_core.geometry.pose_errors import (
    PairErrors,
    area_under_curve,
    pair_errors,
    share_below,
)

GOLDEN = "eval_poses"
# Our form of each recorded one. SpatialBench's differ by a cast of the errors to float32.
FORMS = {
    "vggt": "vggt",
    "fast3r": "fast3r",
    "pi3": "pi3",
    "da3": "da3",
    "sb": "da3",
    "sb_c2w": "vggt",
}
AUC = {"AUC": "bins", "AUC_histc": "histc", "AUC_exact": "integral"}
FAILED = 1e5  # degrees: a NaN pose is recorded as a translation error beyond any angle


@pytest.fixture(scope="module")
def recorded(golden_dir):
    return load_json(golden_dir, GOLDEN), load_arrays(golden_dir, GOLDEN)


def _errors(arrays, case, form) -> PairErrors:
    scene = case.partition("/")[0]
    predicted, truth = (
        torch.from_numpy(arrays[f"{name}"]) for name in (f"{case}/pred_c2w", f"{scene}/gt_c2w")
    )
    return pair_errors(predicted, truth, form=form)


def test_eval_poses_has_cases_of_every_form(recorded):
    facts, _ = recorded
    assert facts["results"]
    assert all(FORMS.keys() <= result.keys() for result in facts["results"].values())


@pytest.mark.parametrize("form", FORMS)
def test_eval_poses_errors_of_pairs_are_the_recorded_ones(recorded, form):
    facts, arrays = recorded
    tolerance = facts["tolerances"]["angles, degrees"]
    for case in facts["results"]:
        found = _errors(arrays, case, FORMS[form])
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
    for case, result in facts["results"].items():
        found = _errors(arrays, case, FORMS[form])
        for key, expected in result[form].items():
            name, _, threshold = key.partition("@")
            if name == "RRA":
                assert share_below(found.rotation, float(threshold)) == expected, (case, key)
            elif name == "RTA":
                assert share_below(found.translation, float(threshold)) == expected, (case, key)
            elif name in AUC:
                area = area_under_curve(found.largest, int(threshold), form=AUC[name])
                assert area == pytest.approx(expected, abs=1e-6), (case, key)


def test_eval_poses_aggregations_are_the_recorded_ones(recorded):
    facts, arrays = recorded
    categories = facts["aggregation"]["categories"]
    scenes = [scene for names in categories.values() for scene in names]
    for level, published in facts["aggregation"].items():
        if level == "categories":
            continue
        pairs = {
            form: {scene: _errors(arrays, f"{scene}/{level}", form) for scene in scenes}
            for form in ("vggt", "fast3r", "pi3", "da3")
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
