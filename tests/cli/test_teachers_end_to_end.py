"""Every teacher through every command on real photographs; small networks in official files."""

import json
import shutil

import pytest
from browser import chromium
from official_folders import write_folder
from PIL import Image
from plausible_pairs import fit_last_layers

from distill3r_core.cache.store import TeacherCache

TEACHERS = ("da3-small", "vggt", "pi3", "mast3r", "dust3r-512-dpt")
PAIRWISE = ("mast3r", "dust3r-512-dpt")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in TEACHERS]
DRAWN = "document.body.dataset.drawn !== undefined"


def small_photos(source, target, pattern, count, *, rows=108):
    """A few photographs, made small, and low where asked: pixels cost time."""
    target.mkdir(parents=True)
    for path in sorted(source.glob(pattern))[:count]:
        with Image.open(path) as image:
            name = path.name.split(".")[0]  # `frame-0.color` would be a frame of 7-Scenes
            small = image.convert("RGB").resize((144, 108))
            top = (108 - rows) // 2
            small.crop((0, top, 144, top + rows)).save(target / f"{name}.jpg", quality=95)


def first_frames(kitchen, target, count):
    """The first frames of the RGB-D sequence, as a data set of its own."""
    sequence = min(kitchen.rglob("*.color.*")).parent
    scene = target / sequence.parent.name
    (scene / sequence.name).mkdir(parents=True)
    for name in ("TestSplit.txt", "TrainSplit.txt"):
        shutil.copy(sequence.parent / name, scene)
    for index in sorted({path.name.split(".")[0] for path in sequence.glob("frame-*")})[:count]:
        for path in sequence.glob(f"{index}.*"):
            shutil.copy(path, scene / sequence.name)
    return target


@pytest.mark.parametrize("name", SLOW)
def test_every_command_runs_with_a_teacher_on_real_photographs(
    cli_inprocess, data_dir, golden_dir, tmp_path, name, monkeypatch
):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    write_folder(tmp_path / "weights" / name, golden_dir, name)
    kitchen = data_dir / "7scenes_kitchen"
    pairwise = name in PAIRWISE  # two passes of two heads for each pair of views
    castle, rows = tmp_path / "photos" / "castle", 54 if pairwise else 108
    small_photos(data_dir / "castle", castle, "*.JPG", 3, rows=rows)
    frames = min(kitchen.rglob("*.color.*")).parent
    small_photos(frames, tmp_path / "photos" / "kitchen", "*.color.*", 3, rows=rows)
    own, data, size = (), kitchen, "28x42"
    # A pair teacher that is fitted to these photographs places every view of them.
    some = (0,) if pairwise else (0, 5)
    if pairwise:
        fit_last_layers(tmp_path / "weights" / name, name, sorted(castle.iterdir()))
        own = ("--set", "teacher.align_steps=30")
        data, size = first_frames(kitchen, tmp_path / "data-4", 4), "28x126"

    def run(*arguments, allowed=(0,)) -> dict:
        status, output, error = cli_inprocess(*arguments, "--json", cwd=tmp_path)
        assert status in allowed, error
        return json.loads(output)

    run("manifest", "photos", "--views", "3", "--val-scenes", "0.5")
    cached = run(
        "cache", "--resume", "--teacher", name, "--size", "28x42", "--threshold", "0", *own
    )
    assert cached["failed"] == []
    assert TeacherCache(tmp_path / "caches/teacher").header.teacher == name
    run("train", "--preset", "tiny", "--max-steps", "2", "--set", "data.size=28x42")

    folder = tmp_path / "out"
    placed = run(
        "infer", "photos/castle", "-m", name, "--ply", "-o", "out/model", *own, allowed=some
    )
    assert placed["result"]["model"] == name and placed["result"]["views"] == 3
    compared = run(
        "infer", "photos/castle", "--compare", name, "-o", "out/both", *own, allowed=some
    )
    assert compared["result"]["comparison"]["model"] == name
    with chromium(tmp_path / "profile") as page:
        page.open((folder / "both" / "compare.html").as_uri(), ready=DRAWN)
        assert page.evaluate("parts.map((part) => part.name)")[1] == name
        assert not page.errors
    scored = run(
        "eval", name, "--data", str(data), "--no-colmap", "-o", "out/eval", *own, allowed=(0, 5)
    )
    assert scored["result"]["views"] > 0
    bench = run(
        "bench", "--preset", "tiny", "--views", "2", "--size", size, "--budget", "120",
        "--compare", name, "-o", "out/bench", *own,
    )  # fmt: skip
    rows = {row["model"]: row for row in bench["result"]["rows"]}
    assert rows[name]["status"] == "measured" and rows[name]["tflop"] > 0
