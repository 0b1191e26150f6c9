"""Names of files with control characters and markup, from the command line to what it writes."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from infer_project import make_photos, run_infer
from PIL import Image
from saved_runs import write_run

from distill3r_core.models import load_student

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
NAMES = ("\x1b[2J<b>1", "a\r<img src=x onerror=alert(1)>2", "gpj.\u202e<i>3", '"><!--\x9b31m4')


def test_names_are_escaped_in_the_list_of_what_was_left_out(cli_inprocess, tmp_path):
    make_photos(tmp_path / "photos", "a1.png", "a2.png")
    for name in NAMES:
        (tmp_path / "photos" / f"{name}.png").write_bytes(b"no image")
    status, _, err = cli_inprocess(
        "manifest", "photos", "--views", "2", "--trust", "-o", "data", cwd=tmp_path
    )
    assert status == 5, err
    text = (tmp_path / "data/rejected.csv").read_text()
    assert not CONTROL.search(text)
    assert not CONTROL.search(err.replace("\r\n", "\n"))
    lines = list(csv.DictReader(text.splitlines()))
    shown = sorted(line["path"].rpartition("/")[2] for line in lines)
    assert shown == sorted(
        CONTROL.sub(lambda found: ascii(found[0])[1:-1], f"{name}.png") for name in NAMES
    )


def test_names_are_escaped_in_the_page(cli_inprocess, project):
    folder = "\x1b]0;x<script>alert(2)<\u202e"
    make_photos(project / folder, *(f"{name}.png" for name in NAMES))
    status, report, err = run_infer(
        cli_inprocess, folder, "--format", "html", "-o", "made", cwd=project
    )
    assert status == 0, err
    assert report["result"]["views"] == len(NAMES)
    page = (project / "made/scene.html").read_text()
    assert not CONTROL.search(page)
    for markup in ("<img src=x", "<b>1", "<i>3", "<!--\\", "<script>alert"):
        assert markup not in page
    assert "alert(1)" in page or "alert(2)" in page  # they are there, and are text


def test_what_a_weight_file_says_is_escaped_in_the_heads_of_results(cli_inprocess, project):
    run = project / "runs/tiny-001"
    student = load_student(run)
    hostile = ("\x1b[2Jmine", "two\nlines\x9b", "gpj.\u202eexe")
    write_run(run, student, replace(student.metadata, licenses=hostile), step=2)
    make_photos(project / "photos", "a.png", "b.png")
    status, _, err = run_infer(
        cli_inprocess, "photos", "--format", "ply,colmap", "-o", "made", cwd=project
    )
    assert status == 0, err
    head = (project / "made/scene.ply").read_bytes().partition(b"end_header")[0].decode("ascii")
    for text in (head, next((project / "made").rglob("images.txt")).read_text()):
        assert "[2Jmine" in text and "two lines" in text
        assert not CONTROL.search(text)


@pytest.mark.parametrize("keep", [True, False])
def test_place_and_photographer_are_kept_only_if_asked_for(cli_inprocess, project, keep):
    (project / "photos").mkdir()
    for number in range(2):
        exif = Image.Exif()
        exif[0x013B] = "Ada Lovelace"
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 0.0)})
        pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(project / f"photos/{number}.jpg", exif=exif)
    more = ("--keep-exif",) if keep else ()
    status, _, err = run_infer(
        cli_inprocess, "photos", "--format", "nerfstudio", "-o", "made", *more, cwd=project
    )
    assert status == 0, err
    copies = list((project / "made").rglob("*.jpg"))
    assert len(copies) == 2
    for copy in copies:
        with Image.open(copy) as image:
            found = image.getexif()
            assert bool(found.get_ifd(0x8825)) is keep
            assert (found.get(0x013B) == "Ada Lovelace") is keep
        assert (b"Ada Lovelace" in copy.read_bytes()) is keep
