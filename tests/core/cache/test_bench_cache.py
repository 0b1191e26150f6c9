"""`bench cache`: the keys that scripts rely on, and the bars."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distill3r_core.benchmarks.cache import BenchCacheSettings, bench_cache
from distill3r_core.benchmarks.cache.cache_report import BARS, meets
from distill3r_core.errors import ConflictError, InputMissingError

BYTES = ("bytes_clean", "bytes_noisy", "bytes_independent", "bytes_depth", "bytes_all")


def test_a_short_run_has_every_key_and_the_bytes_reach_their_bars(data_dir, tmp_path):
    settings = BenchCacheSettings(
        frames=data_dir / "7scenes_kitchen",
        views=2,
        samples=1,
        subset=1,
        rounds=1,
        output=tmp_path / "bench",
    )
    report = bench_cache(settings)
    ratios = report.result["ratios"]
    assert set(ratios) == set(BARS)
    assert all(ratio > 0 for ratio in ratios.values())
    assert {name for name in BYTES if not meets(name, ratios[name])} == set()
    assert sorted(path.name for path in (tmp_path / "bench").iterdir()) == [
        "bench.png",
        "run.json",
    ]
    again = bench_cache(settings)
    assert again.finished_before
    assert again.result == report.result
    with pytest.raises(ConflictError, match="rounds: 1 → 2"):
        bench_cache(replace(settings, rounds=2))


@pytest.mark.slow
@pytest.mark.alone
def test_every_bar_is_reached(cli, data_dir, tmp_path):
    # In a process of its own, as users run it: here every call's types are checked.
    done = cli(
        "bench", "cache", "--frames", str(data_dir / "7scenes_kitchen"), "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    ratios = json.loads(done.stdout)["result"]["ratios"]
    assert {name: ratio for name, ratio in ratios.items() if not meets(name, ratio)} == {}


def test_too_few_frames_are_said(tmp_path):
    with pytest.raises(InputMissingError, match="has 0 RGB-D frames"):
        bench_cache(BenchCacheSettings(frames=Path(tmp_path)))
