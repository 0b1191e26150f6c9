"""Fused depth maps against the mesh and the F-scores that Open3D 0.19 gave."""

import numpy as np
import pytest
import torch
from recorded import load_arrays, load_json
from scipy.spatial import KDTree

from distill3r_core.evaluation.clouds.f_score import f_score
from distill3r_core.evaluation.clouds.tsdf import TsdfVolume, VolumeRules, sample_surface

GOLDEN = "eval_points"
VERTEX = 2e-3  # meters, of the recorded tolerances
RELATIVE, SHARE = 0.03, 0.02


def test_eval_points_tsdf_surface_and_scores_are_the_recorded_ones(golden_dir):
    expected = load_json(golden_dir, GOLDEN)["results"]["tsdf"]
    arrays = load_arrays(golden_dir, GOLDEN)
    rules = VolumeRules(expected["voxel_length"], expected["sdf_trunc"], expected["max_depth"])
    volume = TsdfVolume(rules)
    # The predicted depth within the truth's mask, in the true cameras.
    for depth, mask, pose in zip(
        arrays["input/depth_pred"], arrays["input/mask"], arrays["input/pose"], strict=True
    ):
        known = np.where(mask, depth, 0.0).astype(np.float64)
        volume.integrate(known, arrays["input/K"], pose.astype(np.float64), center=0.0)
    triangles = volume.triangles()
    distance, _ = KDTree(triangles.reshape(-1, 3)).query(arrays["tsdf/vertices_every_4th"])
    assert distance.max() < VERTEX
    sides = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = float(np.linalg.norm(np.cross(*sides), axis=1).sum() / 2)
    assert area == pytest.approx(expected["area"], rel=0.1)

    truth = torch.from_numpy(arrays["input/cloud_gt"].astype(np.float64))
    points = torch.from_numpy(sample_surface(triangles, expected["sampled_points"]))
    for grid, figures in (
        ("corner", expected["metrics_mean_of_10"]),
        ("origin", expected["spatialbench"]),
    ):
        found = f_score(
            points,
            truth,
            threshold=expected["threshold"],
            voxel=expected["down_sample"],
            grid=grid,
        )
        assert found.accuracy == pytest.approx(figures["acc"], rel=RELATIVE)
        assert found.completeness == pytest.approx(figures["comp"], rel=RELATIVE)
        assert found.overall == pytest.approx(figures["overall"], rel=RELATIVE)
        assert found.precision == pytest.approx(figures["precision"], abs=SHARE)
        assert found.recall == pytest.approx(figures["recall"], abs=SHARE)
