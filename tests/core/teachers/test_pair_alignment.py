"""The global alignment of pairs that are nearly true finds cameras, focal lengths and points."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from distill3r_core.teachers.pairwise.graph import pairs_of
from distill3r_core.teachers.pairwise.optimization import align
from distill3r_core.teachers.pairwise.tree import place_by_tree

SCRIPT = Path(__file__).parents[3] / "docs" / "benchmarks" / "pair_alignment.py"
SIZE = (36, 48)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pair_alignment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["pair_alignment"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["pair_alignment"]


@pytest.mark.parametrize("seed", [0, 1])
def test_exact_pairs_of_a_room_give_exact_cameras_of_several_focal_lengths(script, seed):
    true = script.room_views(seed, 4, SIZE, degrees=45.0)
    assert len(set(true.intrinsics[:, 0, 0].tolist())) == 3
    pairs = script.predict_pairs(true, pairs_of(4, "complete"), noise=0.0, seed=seed)
    result = script.measure(true, pairs, graph="complete", steps=60)
    assert result.unplaced == 0
    assert result.rotation_max < 0.1
    assert max(result.center_error, result.focal_error, result.point_error) < 0.005


def test_errors_grow_with_the_noise_of_the_pairs_and_stay_below_it(script):
    true = script.room_views(2, 4, SIZE, degrees=45.0)
    errors = []
    for noise in (0.01, 0.04):
        pairs = script.predict_pairs(true, pairs_of(4, "complete"), noise=noise, seed=0)
        result = script.measure(true, pairs, graph="complete", steps=60)
        assert result.point_error < noise
        assert result.rotation_median < 57.3 * noise / 2
        errors.append(result.point_error)
    assert errors[0] < errors[1]


def test_a_view_that_overlaps_with_no_other_leaves_the_others_where_they_are(script):
    true = script.room_views(3, 5, SIZE, degrees=45.0)
    pairs = script.predict_pairs(true, pairs_of(5, "complete"), noise=0.01, seed=0, strangers=[2])
    result = script.measure(true, pairs, graph="complete", steps=60, skip=[2])
    assert result.rotation_max < 2.0
    assert result.point_error < 0.02


def test_a_stop_is_asked_for_at_least_every_two_seconds(script):
    # 380 pairs; at 384x512 a pair has 16 times as many pixels, so a pair may take a tenth of that.
    true = script.room_views(4, 20, (96, 128), degrees=45.0)
    pairs = script.predict_pairs(true, pairs_of(20, "complete"), noise=0.01, seed=0)
    asked = [time.process_time()]

    def ask(phase: str, done: int, total: int) -> None:
        asked.append(time.process_time())

    start = place_by_tree(pairs, on_progress=ask)
    align(pairs, start, steps=2, on_progress=ask)
    gaps = torch.tensor(asked).double().diff()
    assert float(gaps.max()) < 2.0
    assert float(gaps.median()) < 2.0 / 16


def test_the_pixels_that_two_views_share_are_those_of_one_surface(script):
    # Worked by hand: a wall at z = 2, f = 1 pixel per 1; the second camera 1 to the right sees
    # all columns of the first but those that project left of its border: 1 / 2 of a pixel.
    depth = torch.full((2, 2, 4), 2.0)
    intrinsics = torch.tensor([[2.0, 0, 2], [0, 2, 1], [0, 0, 1]]).repeat(2, 1, 1)
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 1.0
    true = script.TrueViews(depth, intrinsics, poses)
    assert script.seen_in(true, 0, 1).tolist() == [[False, True, True, True]] * 2
    assert script.seen_in(true, 1, 0).tolist() == [[True, True, True, False]] * 2


def test_frames_of_a_real_kitchen(tmp_path, data_dir):
    command = [sys.executable, str(SCRIPT), str(data_dir / "7scenes_kitchen"), "--views", "5"]
    command += ["--size", "36x48", "--steps", "60", "--json", "result.json"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    written = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    [result] = written["results"]
    assert (result["views"], result["pairs"], result["unplaced"]) == (5, 20, 0)
    assert result["rotation_median"] < 2.0
    assert result["point_error"] < 0.04
