"""Alignments, ICP and errors of point maps against the recorded outputs of published code."""

import numpy as np
import pytest
import torch
from recorded import load_arrays, load_json, recorded_cases, stored

from distill3r_core.evaluation.clouds.cloud_alignments import (
    align_by_confidence,
    align_by_medians,
    align_local_to_global,
    center_crop,
    confident_pixels,
)
from distill3r_core.evaluation.clouds.cloud_errors import cloud_errors
from distill3r_core.evaluation.clouds.icp import icp
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity

GOLDEN = "eval_points"
CASES = recorded_cases(GOLDEN)


def _named(*protocols: str) -> list[str]:
    return [case for case in CASES if case.rpartition("/")[2] in protocols]


class Scene:
    """Inputs, expected figures and tolerances of a case."""

    def __init__(self, folder, case):
        self.facts = load_json(folder, GOLDEN)
        self.arrays = load_arrays(folder, GOLDEN)
        self.case = case
        unit = "_dtu" if case.startswith("dtu/") else ""
        self.threshold = 100.0 if unit else 0.1
        self.truth = self.tensor(f"input/pts_gt{unit}").double()
        self.pose = self.tensor(f"input/pose{unit}").double()
        self.predicted = self.tensor("input/pts_pred").double()
        self.mask = self.tensor("input/mask")
        points = self.truth[self.mask]
        self.size = float((points.max(0).values - points.min(0).values).max())
        self.expected = self.facts["results"][case]

    def tensor(self, name):
        return torch.from_numpy(self.arrays[name])

    def assert_errors(self, predicted, truth, expected):
        errors = cloud_errors(predicted, truth)
        values = {
            "acc": errors.accuracy,
            "comp": errors.completeness,
            "nc1": errors.normals_accuracy,
            "nc2": errors.normals_completeness,
        }
        found = {key: float(value.mean()) for key, value in values.items()}
        found |= {f"{key}_med": float(np.median(value.numpy())) for key, value in values.items()}
        found |= {"nc": (found["nc1"] + found["nc2"]) / 2}
        found |= {"nc_med": (found["nc1_med"] + found["nc2_med"]) / 2}
        tolerances = self.facts["tolerances"]
        named = found.keys() & expected.keys()
        assert {"acc", "acc_med", "comp", "comp_med", "nc", "nc_med"} <= named
        for key in named:
            distance = key.startswith(("acc", "comp"))
            allowed = tolerances["Acc, Comp over scene size"] * self.size
            allowed = allowed if distance else tolerances["NC"]
            assert found[key] == pytest.approx(expected[key], abs=allowed), key

    def assert_points(self, found, name):
        tolerance = self.facts["tolerances"]["alignment numbers, relative"] * self.size
        part = stored(self.facts["arrays"], 0)
        wanted = self.arrays[f"{self.case}/{name}"]
        np.testing.assert_allclose(found[part].numpy(), wanted, rtol=0, atol=tolerance)

    def assert_icp(self, aligned, truth):
        """Run ICP on the points that count and compare the motion and the errors after it."""
        assert len(aligned) == self.expected["points"]
        moved = icp(aligned, truth, threshold=self.threshold)
        wanted = np.array(self.expected["icp_transformation"])
        tolerance = self.facts["tolerances"]["ICP transformation"]
        found = moved.target_from_source.numpy()
        np.testing.assert_allclose(found[:3, :3], wanted[:3, :3], rtol=0, atol=tolerance)
        offset = found[:3, 3], wanted[:3, 3]
        np.testing.assert_allclose(*offset, rtol=0, atol=tolerance * max(1, self.size))
        assert moved.fitness == pytest.approx(self.expected["icp_fitness"], abs=1 / len(aligned))
        rmse = self.expected["icp_inlier_rmse"]
        assert moved.inlier_rmse == pytest.approx(rmse, abs=tolerance * self.size)
        self.assert_errors(moved.points, truth, self.expected)


@pytest.fixture
def scene(golden_dir, case):
    return Scene(golden_dir, case)


@pytest.mark.parametrize("case", _named("spann3r", "cut3r"))
def test_eval_points_by_medians_and_icp_are_the_recorded_ones(scene, case):
    found = align_by_medians(scene.predicted, scene.truth, scene.mask, scene.pose[0])
    for value, key in (
        (found.predicted_shift, "pred_shift_z"),
        (found.true_shift, "gt_shift_z"),
        (found.predicted_scale, "pred_scale"),
        (found.true_scale, "gt_scale"),
    ):
        tolerance = scene.facts["tolerances"]["alignment numbers, relative"]
        assert value == pytest.approx(scene.expected[key], rel=tolerance), key
    aligned, truth, mask = found.points, scene.truth, scene.mask
    half = scene.expected.get("crop_half")
    if half is not None:
        aligned, truth, mask = (center_crop(maps, half) for maps in (aligned, truth, mask))
    scene.assert_points(aligned, "aligned")
    if "without_icp" in scene.expected:
        scene.assert_errors(aligned[mask], truth[mask], scene.expected["without_icp"])
    scene.assert_icp(aligned[mask], truth[mask])


@pytest.mark.parametrize("case", _named("pi3"))
def test_eval_points_by_one_similarity_and_icp_are_the_recorded_ones(scene, case):
    mask, truth = scene.mask, scene.truth[scene.mask]
    similarity = fit_similarity(scene.predicted[mask], truth)
    expected = scene.expected["umeyama"]
    tolerance = scene.facts["tolerances"]["alignment numbers, relative"]
    linear = expected["s"] * np.array(expected["r"])
    np.testing.assert_allclose(
        similarity[:, :3].numpy(), linear, rtol=0, atol=tolerance * expected["s"]
    )
    np.testing.assert_allclose(
        similarity[:, 3].numpy(), expected["t"], rtol=0, atol=tolerance * scene.size
    )
    aligned = apply_similarity(similarity, scene.predicted)
    scene.assert_points(aligned, "aligned")
    if "without_icp" in scene.expected:
        scene.assert_errors(aligned[mask], truth, scene.expected["without_icp"])
    scene.assert_icp(aligned[mask], truth)


@pytest.mark.parametrize("case", _named("fast3r", "fast3r_global_head", "fast3r_no_conf"))
def test_eval_points_by_confidence_are_the_recorded_ones(scene, case):
    everything = torch.ones_like(scene.mask)
    trusted, trusted_local = everything, everything
    if not case.endswith("no_conf"):
        trusted, trusted_local = (
            confident_pixels(scene.tensor(f"input/{name}")) for name in ("conf", "conf_local")
        )
    points, chosen = scene.predicted, trusted
    if not case.endswith("global_head"):
        local = scene.tensor("input/pts_local")
        points = align_local_to_global(local, scene.predicted, scene.mask, trusted)
        chosen = trusted_local
        if f"{case}/local_aligned_to_global" in scene.arrays:
            scene.assert_points(points, "local_aligned_to_global")
    aligned = align_by_confidence(points, scene.truth, scene.mask, chosen)
    scene.assert_errors(aligned[scene.mask], scene.truth[scene.mask], scene.expected)
