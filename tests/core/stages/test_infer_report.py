"""What is said of a scene when it is done."""

from pathlib import Path

import pytest

from distill3r_core.stages.infer.infer_report import scene_report
from distill3r_core.stages.infer.scene_record import SceneOutcome


def _record(**result):
    return {
        "machine": {},
        "files": ["scene.ply", "cameras.json"],
        "views": [
            {
                "name": "a", "size": [480, 640], "focal": 500.0, "focal_source": "points",
                "confidence": 2.0, "kept": 0.9, "pnp_degrees": None, "pnp_distance": None,
            }
        ],
        "result": {
            "scene": "desk", "model": "tiny", "student": [], "precision": "float32",
            "views": 1, "points": 10, "cloud": "aligned", "scale": "relative",
            "scale_source": "", "cleaning": [], "low_confidence": [], "behind": [],
            "agreement": None, "seconds": 1.0, "forward_seconds": 1.0, "peak_bytes": 2**30,
            **result,
        },
    }  # fmt: skip


def _report(**result):
    return scene_report({}, SceneOutcome(Path("out"), _record(**result), ()), strict=False)


@pytest.mark.parametrize(
    ("degrees", "distance", "doubtful"),
    [(20.0, 0.35, False), (20.1, 0.0, True), (0.0, 0.351, True), (16.0, 0.25, False)],
)
def test_poses_are_called_doubtful_by_either_of_two_distances(degrees, distance, doubtful):
    agreement = {"degrees": degrees, "distance": distance, "views": 1.0}
    notes = _report(agreement=agreement).notes
    assert any("closed form and PnP find different poses" in note for note in notes) == doubtful


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"agreement": {"degrees": 3.0, "distance": 0.05, "views": 1.0}}, "3.00° · 5.0 % of"),
        ({"pnp": "run"}, "PnP found no pose"),
        ({"pnp": "left out"}, "each view's similarity"),
        ({"pnp": "not installed"}, "not run (extra colmap)"),
        ({}, "not run"),  # of an earlier version
        ({"head": "global"}, "PnP's"),
        ({"head": "local"}, "none"),
    ],
)
def test_the_table_says_how_poses_compare_or_why_they_do_not(result, says):
    rows = dict(_report(**result).tables[0].rows)
    alone = "head" in result or result.get("pnp") == "left out"
    title = "poses" if alone else "poses against PnP"
    assert rows[title].startswith(says)


@pytest.mark.parametrize(
    ("view", "warned"),
    [
        ({"misfit": 0.051}, True),
        ({"misfit": 0.05}, False),
        ({"misfit": None}, False),
        ({}, False),  # of an earlier version
        ({"misfit": 0.9, "focal_source": "guessed (60° wide)"}, False),  # said by that
    ],
)
def test_points_that_fit_no_camera_are_warned_of(view, warned):
    record = _record()
    record["views"][0] |= view
    notes = scene_report({}, SceneOutcome(Path("out"), record, ()), strict=False).notes
    assert any("fit no pinhole camera" in note for note in notes) == warned


def test_a_focal_length_that_is_not_the_points_own_is_marked_and_explained():
    record = _record()
    record["views"].append(record["views"][0] | {"name": "b", "focal_source": "guessed (60° wide)"})
    report = scene_report({}, SceneOutcome(Path("out"), record, ()), strict=False)
    assert [row[2] for row in report.tables[1].rows] == ["500", "500*"]
    assert "* focal length of b: guessed (60° wide)" in report.notes
