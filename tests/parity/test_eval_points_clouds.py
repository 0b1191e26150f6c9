"""F-scores and DTU's official errors against the recorded outputs of published code."""

import re

import numpy as np
import pytest
import torch
from recorded import drawing, load_arrays, load_json, number, recorded_cases

from distill3r_core.evaluation.clouds.dtu_official import DtuObservation, dtu_errors
from distill3r_core.evaluation.clouds.f_score import f_score, voxel_means

GOLDEN = "eval_points"
GRIDS = {"sb": "origin", "da3": "corner"}
NAMES = {
    "acc": "accuracy",
    "comp": "completeness",
    "overall": "overall",
    "precision": "precision",
    "recall": "recall",
    "fscore": "f_score",
    "f_score": "f_score",
}
PARAMETERS = ("voxel", "threshold", "crop_margin")
SHARES = ("precision", "recall", "fscore", "f_score")
FSCORES = recorded_cases(GOLDEN, "results", "fscore")


@pytest.fixture(scope="module")
def recorded(golden_dir):
    return load_json(golden_dir, GOLDEN), load_arrays(golden_dir, GOLDEN)


@pytest.mark.parametrize("case", FSCORES)
def test_eval_points_f_scores_are_the_recorded_ones(recorded, case):
    facts, arrays = recorded
    scores = facts["results"]["fscore"]
    code, name = case.split("/")
    # The parameters of both codes are written with SpatialBench's results.
    parameters = scores[f"sb/{name}"]
    predicted, truth = (torch.from_numpy(arrays[f"input/cloud_{key}"]) for key in ("pred", "gt"))
    if "voxel" not in parameters:
        predicted = predicted[:0]
        assert name == "empty"
    found = f_score(
        predicted,
        truth,
        threshold=parameters.get("threshold", 0.05),
        voxel=parameters.get("voxel"),
        grid=GRIDS[code],
        crop_margin=parameters.get("crop_margin") if code == "sb" else None,
    )
    text = facts["tolerances"]["F-score block distances / shares"]
    distances, shares = number(text, r"(\S+) /"), number(text, r"/ (\S+)")
    assert scores[case].keys() <= {*NAMES, *PARAMETERS, "points"}
    for key in scores[case].keys() & NAMES.keys():
        expected = float(scores[case][key])  # infinity is a string in the file
        tolerance = shares if key in SHARES else distances
        assert getattr(found, NAMES[key]) == pytest.approx(expected, abs=tolerance), key
    if "points" in scores[case]:  # of both clouds, thinned; counted before the crop
        clouds = [cloud.numpy().astype(float) for cloud in (predicted, truth)]
        if (voxel := parameters["voxel"]) is not None:
            clouds = [voxel_means(cloud, voxel, GRIDS[code]) for cloud in clouds]
        assert [len(cloud) for cloud in clouds] == scores[case]["points"]


def test_eval_points_of_official_dtu_are_the_recorded_ones(recorded, golden_dir):
    facts, arrays = recorded
    predicted, scan = (50 * arrays[f"input/cloud_{key}"].astype(float) for key in ("pred", "gt"))
    jitter = drawing(golden_dir)("input/points/dtu_jitter", predicted.shape, facts["seed"])
    text = facts["arrays"]
    corners = np.fromstring(_numbers(text, r"BB \[\[(.*?)\]\]"), sep=" ").reshape(2, 3)
    shape = [int(side) for side in _numbers(text, r"of shape (\d+x\d+x\d+)").split()]
    x, y, z = np.indices(shape)
    observation = DtuObservation(
        box=torch.from_numpy(corners),
        resolution=float(_numbers(text, r"Res (\d+)")),
        mask=torch.from_numpy((x + 2 * y + 3 * z) % 5 != 0),
        plane=torch.from_numpy(np.fromstring(_numbers(text, r"plane \((.*?)\)"), sep=" ")),
    )
    points = np.concatenate([predicted, predicted + 0.1 * jitter])
    found = dtu_errors(torch.from_numpy(points), torch.from_numpy(scan), observation)
    expected = facts["results"]["dtu_official"]
    tolerance = facts["tolerances"]["DTU official, mm"]
    assert found.accuracy == pytest.approx(expected["mean_d2s_accuracy"], abs=tolerance)
    assert found.completeness == pytest.approx(expected["mean_s2d_completeness"], abs=tolerance)
    assert found.overall == pytest.approx(expected["overall"], abs=tolerance)
    assert len(points) == expected["points"]
    # Their script prints the two under each other's name.
    printed = expected["reported_by_eval3d"]
    assert found.accuracy == pytest.approx(printed["comp"], abs=tolerance)
    assert found.completeness == pytest.approx(printed["acc"], abs=tolerance)


def _numbers(text: str, pattern: str) -> str:
    """The numbers of a part of a text, with blanks between them."""
    match = re.search(pattern, text)
    assert match is not None, pattern
    return " ".join(re.findall(r"-?[\d.]+", match.group(1)))
