"""`distill3r cache --pairs`: every pair of a pairwise teacher is a sample of two views."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from official_folders import write_folder
from posed_rooms import write_room

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.manifest_views import read_view
from distill3r_core.teachers import build_teacher

RunCli = Callable[..., tuple[int, str, str]]
MADE = ("--size", "28x42", "--threshold", "0", "--pairs")
COMPLETE = ["0-1", "1-0", "0-2", "2-0", "1-2", "2-1"]


@pytest.fixture
def home(
    tmp_path: Path, cli_inprocess: RunCli, golden_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A manifest of one sample of three views, and the weights of small pairwise networks."""
    write_room(tmp_path / "rooms" / "one", views=3)
    cut = ("--views", "3", "--stride", "1", "--images-only", "--val-scenes", "0")
    assert cli_inprocess("manifest", "rooms", *cut, cwd=tmp_path)[0] == 0
    for name in ("mast3r", "dust3r-512-dpt"):
        write_folder(tmp_path / "weights" / name, golden_dir, name)
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))
    return tmp_path


@pytest.mark.slow
def test_pairs_of_the_graph_are_samples_that_every_command_takes(
    home: Path, cli_inprocess: RunCli
) -> None:
    def run(*arguments: str, expected: int = 0) -> dict:
        status, out, err = cli_inprocess(*arguments, "--json", cwd=home)
        assert status == expected, err
        return json.loads(out)["result"]

    made = ("cache", "--teacher", "mast3r", *MADE)
    run(*made, "--shard", "0/2", "-o", "part")
    assert len(TeacherCache(home / "part").names()) == 3  # a part of the six
    run(*made, "--resume", "-o", "part")
    cache = TeacherCache(home / "part")
    [sample] = read_manifest(home / "data/manifest.csv").samples()
    assert cache.names() == [f"{sample.name}/{pair}" for pair in COMPLETE]
    assert cache.header.teacher_settings["pairs"] is True
    assert cache.header.metric

    # What is stored is what the network says: j's own map, and its map in camera i.
    teacher = build_teacher("mast3r", None, device=torch.device("cpu"), pairs=True)
    views = [
        teacher.prepare(read_view(row, home / "data", sample=sample.name, index=index))
        for index, row in enumerate(sample.rows)
    ]
    raw = {pair: teacher.predict([views[pair[0]], views[pair[1]]]) for pair in ((0, 1), (1, 0))}
    with torch.inference_mode():
        tokens = [teacher.network.encode(2 * view.image[None] - 1) for view in views[:2]]
        of_one, of_two = teacher.network.decode(*tokens)
        own, _ = teacher.network.decode(*reversed(tokens))
    for found, expected in zip(
        (*raw[0, 1].points_local, raw[0, 1].points_global[1], raw[0, 1].confidence_global[1]),
        (of_one.points, own.points, of_two.points, of_two.confidence),
        strict=True,
    ):
        torch.testing.assert_close(found, expected[0], rtol=0, atol=0)
    forward, backward = (cache.read(f"{sample.name}/{pair}").targets for pair in ("0-1", "1-0"))
    both = forward.valid_mask[1] & backward.valid_mask[0]
    assert both.any()
    assert torch.equal(forward.points_local[1][both], backward.points_local[0][both])
    assert torch.equal(forward.global_from_local[0], torch.eye(3, 4))
    torch.testing.assert_close(
        forward.global_from_local[1], raw[0, 1].global_from_local[1], rtol=1e-5, atol=1e-6
    )

    assert run("cache", "info", "part")["finished"] == 6
    assert run("cache", "verify", "part", "--recompute", "2")["ok"]
    assert run("cache", "merge", "part", "-o", "whole")["copied"] == 6
    run("cache", "export", "whole", "-o", "exported")
    assert len(list((home / "exported").rglob("sampled_views.json"))) == 6
    run("train", "--cache", "whole", "--preset", "tiny", "--max-steps", "1")
    aligned = ("cache", "--teacher", "mast3r", *MADE[:-1], "-o", "whole", "--resume")
    status, _, err = cli_inprocess(*aligned, cwd=home)
    assert (status, "teacher_settings.pairs: True → False" in err) == (2, True)


def test_other_graphs_and_other_teachers(home: Path, cli_inprocess: RunCli) -> None:
    graph = ("--teacher", "dust3r-512-dpt", "--set", "teacher.graph=oneref")
    assert cli_inprocess("cache", *graph, *MADE, cwd=home)[0] == 0
    names = TeacherCache(home / "caches/teacher").names()
    assert [name.rsplit("/", 1)[1] for name in names] == ["0-1", "1-0", "0-2", "2-0"]
    for teacher in ("vggt", "synthetic"):
        status, _, err = cli_inprocess("cache", "--teacher", teacher, *MADE, "-o", "no", cwd=home)
        assert status == 2
        assert f"'{teacher}' sees all views" in " ".join(err.split())
        assert "mast3r, dust3r-512-dpt" in err
    assert not (home / "no").exists()
