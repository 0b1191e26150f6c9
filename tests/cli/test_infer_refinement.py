"""`infer --refine`, `--no-refine`, and neither of the two."""

import json

import pytest
from infer_project import make_photos, run_infer

from distill3r_core.reconstruction import reconstruct

PHOTOS = ("a.png", "b.png", "c.png")


def refined(run, project, *options, name):
    """What the record, the header of a file and the table say of one result."""
    photos = project / "photos"
    if not photos.exists():
        make_photos(photos, *PHOTOS)
    status, report, _ = run_infer(run, photos, *options, "-o", name, cwd=project)
    assert status == 0
    record = json.loads((project / name / "run.json").read_text())
    header = json.loads((project / name / "cameras.json").read_text())["about"]
    assert report["result"]["refinement"] == record["result"]["refinement"]
    return record, header["pose_refinement"]


def test_poses_are_refined_if_asked_and_the_record_says_how_each_view_fits(cli_inprocess, project):
    record, header = refined(cli_inprocess, project, "--refine", name="out")
    found = record["result"]["refinement"]
    assert found["refined"] and found["pairs"] == 3 and found["seconds"] > 0
    assert header == f"{found['aligned']} of 3 views aligned"
    for view in record["views"]:
        known = [view["alignment_residual"], view["alignment_agreement"]]
        assert all((one is not None) == view["aligned"] for one in known)
    _, shown, _ = run_infer(
        cli_inprocess, project / "photos", "--refine", "-o", "out", cwd=project, json_too=False
    )
    assert f"{found['aligned']} of 3 views aligned, {found['seconds']:.1f} s" in shown


def test_poses_are_left_as_they_are_if_asked(cli_inprocess, project):
    record, header = refined(cli_inprocess, project, "--no-refine", name="out")
    assert record["result"]["refinement"] == {"refined": False, "reason": "left out"}
    assert header == "not refined (left out)"
    for view in record["views"]:
        assert view["aligned"] is view["alignment_residual"] is view["alignment_agreement"] is None


@pytest.mark.parametrize("knows", [True, False])
def test_by_default_poses_are_refined_where_the_student_knows_depth_of_such_images(
    cli_inprocess, project, monkeypatch, knows
):
    monkeypatch.setattr(reconstruct, "knows_depth", lambda *_: knows)
    record, header = refined(cli_inprocess, project, name="out")
    assert record["result"]["refinement"]["refined"] == knows
    assert ("has not learned depth of such images" in header) == (not knows)
