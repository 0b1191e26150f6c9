"""`distill3r train --cache A --cache B`: one student learns from several teachers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from plyfile import PlyData
from posed_rooms import write_room
from small_caches import write_cache

from distill3r_core.cache.header import read_header
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.models.checkpoint import read_student
from distill3r_core.runs.training_images import training_images

RunCli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, cli_inprocess: RunCli) -> Path:
    """Two caches of one manifest by different teachers, and a project file for short runs."""
    write_room(tmp_path / "rooms" / "one", views=8)
    cut = ("--views", "2", "--stride", "1", "--val-frames", "last:3")
    assert cli_inprocess("manifest", "rooms", *cut, cwd=tmp_path)[0] == 0
    for teacher in ("depth", "synthetic"):
        made = ("--teacher", teacher, "-o", f"caches/{teacher}", "--size", "28x42")
        assert cli_inprocess("cache", *made, cwd=tmp_path)[0] == 0
    (tmp_path / "distill3r.yaml").write_text(
        "train: {preset: tiny, max_steps: 3, cache: [caches/depth, caches/synthetic]}\n"
    )
    return tmp_path


def test_a_student_learns_from_all_and_is_scored_on_each(home: Path, cli_inprocess: RunCli) -> None:
    weight = ("--cache-weight", "synthetic=3", "--json")
    status, out, err = cli_inprocess("train", *weight, "-o", "runs/both", cwd=home)
    assert status == 0, err
    assert json.loads(out)["settings"]["cache"] == ["caches/depth", "caches/synthetic"]
    assert "75% of the draws" in err
    metrics = json.loads(out)["result"]["validation"]
    assert {"validation_loss", "validation_loss@depth", "validation_loss@synthetic"} <= set(metrics)

    headers = {name: read_header(home / "caches" / name) for name in ("depth", "synthetic")}
    identity = json.loads((home / "runs/both/run.json").read_text())["identity"]["cache"]
    assert {name: one["teacher"] for name, one in identity.items()} == dict.fromkeys(headers) | {
        name: header.teacher for name, header in headers.items()
    }
    assert (identity["depth"]["weight"], identity["synthetic"]["weight"]) == (1, 3)
    _, metadata = read_student(home / "runs/both/checkpoints/best/model.safetensors")
    assert metadata is not None
    assert metadata.teacher == " + ".join(header.teacher for header in headers.values())
    assert set(metadata.licenses) == {header.license for header in headers.values()}
    assert metadata.calibration is not None
    caches = CacheUnion.open([home / "caches/depth", home / "caches/synthetic"])
    lines = (home / "runs/both/pictures.txt").read_text().splitlines()
    pictures = [line for line in lines if not line.startswith("#")]  # but for the checksum
    assert pictures == training_images(caches)

    status, out, err = cli_inprocess("eval", "runs/both", "--json", cwd=home)
    assert status == 0, err
    result = json.loads(out)["result"]
    assert list(result["caches"]) == ["depth", "synthetic"]
    scored = [one["name"] for one in result["sequences"]]
    assert scored == caches.names("val")
    assert {name.partition(":")[0] for name in scored} == {"depth", "synthetic"}

    images = sorted((home / "data/images").rglob("*.png"))[:2]
    status, _, err = cli_inprocess("infer", *images, "-m", "runs/both", "-o", "out", cwd=home)
    assert status == 0, err
    comments = " ".join(PlyData.read(home / "out/scene.ply").comments)
    assert all(license_ in comments for license_ in metadata.licenses)


@pytest.mark.slow
def test_a_run_on_several_caches_is_resumed_to_the_bit_and_on_these_alone(
    home: Path, cli_inprocess: RunCli
) -> None:
    weight = ("--cache-weight", "synthetic=3")
    assert cli_inprocess("train", *weight, "-o", "runs/both", cwd=home)[0] == 0
    stopped = ("train", *weight, "-o", "runs/again")
    assert cli_inprocess(*stopped, "--max-hours", "1e-9", cwd=home)[0] == 0
    assert cli_inprocess(*stopped, "--resume", cwd=home)[0] == 0
    files = [
        home / "runs" / run / "checkpoints/last/model.safetensors" for run in ("both", "again")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    for other in (("--cache", "caches/depth"), ("--cache-weight", "depth=2")):
        status, _, err = cli_inprocess("train", *other, "-o", "runs/both", "--resume", cwd=home)
        assert status == 2
    assert "cache.synthetic.weight: 3.0 → 1.0" in err
    status, _, err = cli_inprocess(
        "train", "--cache", "caches/depth", "-o", "runs/both", "--resume", cwd=home
    )
    assert status == 2
    assert "cache: depth (depth, " in err
    assert "synthetic (synthetic, " in err


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--cache", "a", "--cache", "link"), 2, ("--cache a", "twice", "link")),
        (("--cache", "a", "--cache", "large"), 1, ("a is at 28x42", "large at 28x56")),
        (("--cache", "a", "--cache", "gone"), 3, ("gone",)),
        (("--cache", "a", "--cache", "b", "--cache-weight", "bb=2"), 2, ("'bb'", "'b'")),
        (("--cache", "a", "--cache", "b", "--cache-weight", "b=0"), 2, ("--cache-weight", "0")),
        (("--cache", "a", "--cache", "b", "--cache-weight", "b"), 2, ("NAME=WEIGHT",)),
        (("--cache", "y/a", "--cache", "x/a", "--cache-weight", "a=2"), 2, ("y/a, x/a", "path")),
        (("--cache", "a", "--cache-weight", "a=2"), 2, ("only one cache",)),
        (("--set", "cache=[]"), 2, ("names no cache",)),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run_is_begun(
    tmp_path: Path, cli_inprocess: RunCli, options: tuple[str, ...], status: int,
    words: tuple[str, ...],
) -> None:  # fmt: skip
    sizes = {"a": (28, 42), "b": (28, 42), "x/a": (28, 42), "y/a": (28, 42), "large": (28, 56)}
    for name, size in sizes.items():
        if name in options:
            write_cache(tmp_path / name, sizes=[size], held_out=0)
    if "link" in options:
        (tmp_path / "link").symlink_to(tmp_path / "a")
    tiny = ("--preset", "tiny", "--max-steps", "1")
    found, _, err = cli_inprocess("train", *tiny, *options, cwd=tmp_path)
    assert found == status, err
    said = " ".join(err.split())
    for word in words:
        assert word in said
    assert not (tmp_path / "runs").exists()


def test_draws_follow_the_sizes_or_weights_by_folder_name_or_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("x/a", 3), ("y/a", 1), ("b", 2)):
        write_cache(tmp_path / name, sizes=[(28, 42)] * count, held_out=0)
    monkeypatch.chdir(tmp_path)
    paths = [Path("x/a"), Path("y/a"), Path("b")]
    assert CacheUnion.open(paths).portions() == ()  # every sample as often as any other
    for given in ("y/a", "./y/a", str(tmp_path / "y/a")):
        found = CacheUnion.open(paths, {given: 4.0, "b": 0.5}).portions()
        assert [(len(one.names), one.weight) for one in found] == [(3, 1.0), (1, 4.0), (2, 0.5)]


def test_one_cache_in_a_list_is_that_cache(tmp_path: Path, cli_inprocess: RunCli) -> None:
    printed = [
        cli_inprocess("train", *options, "--preset", "tiny", "--print-config", cwd=tmp_path)[1]
        for options in (("--cache", "a"), ("--set", "cache=a"), ("--set", "cache=[a]"))
    ]
    assert "  cache: a  # default: " in printed[0]
    assert printed[0] == printed[1] == printed[2]
    write_cache(tmp_path / "a")
    one = CacheUnion.open([tmp_path / "a"])
    assert one.names("val") == ["made/held-00/000", "made/held-01/000"]  # as they are stored
    assert one.portions() == ()
