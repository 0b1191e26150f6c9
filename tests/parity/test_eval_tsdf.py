"""Fused depth maps against the mesh and the F-scores that Open3D 0.19 gave."""

import numpy as np
import pytest
import torch
from recorded import load_arrays, load_json, number
from scipy.spatial import KDTree

from distill3r_core.evaluation.clouds.f_score import f_score
from distill3r_core.evaluation.clouds.tsdf import TsdfVolume, VolumeRules, sample_surface

GOLDEN = "eval_points"


def test_eval_points_tsdf_surface_and_scores_are_the_recorded_ones(golden_dir):
    facts = load_json(golden_dir, GOLDEN)
    expected, text = facts["results"]["tsdf"], facts["tolerances"]["TSDF Acc, Comp, Overall"]
    relative, share = number(text, r"(\S+) % relative") / 100, number(text, r"F (\S+) absolute")
    vertex, area_share = number(text, r"vertices (\S+) m"), number(text, r"area (\S+) %") / 100
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
    assert distance.max() < vertex
    box = np.stack([triangles.min((0, 1)), triangles.max((0, 1))])
    # Tetrahedra have corners inside of the cubes, too: within a voxel of those of their cube.
    beyond = (box - expected["bbox"]) * np.array([[-1], [1]])
    assert (beyond > -vertex).all() and (beyond < expected["voxel_length"]).all()
    sides = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = float(np.linalg.norm(np.cross(*sides), axis=1).sum() / 2)
    assert area == pytest.approx(expected["area"], rel=area_share)

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
        assert found.accuracy == pytest.approx(figures["acc"], rel=relative)
        assert found.completeness == pytest.approx(figures["comp"], rel=relative)
        assert found.overall == pytest.approx(figures["overall"], rel=relative)
        assert found.precision == pytest.approx(figures["precision"], abs=share)
        assert found.recall == pytest.approx(figures["recall"], abs=share)
        harmonic = figures["fscore" if grid == "corner" else "f_score"]
        assert found.f_score == pytest.approx(harmonic, abs=share)
