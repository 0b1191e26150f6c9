"""`bench cache`: the keys that scripts rely on, and the targets."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distill3r_core.benchmarks.cache import BenchCacheSettings, bench_cache
from distill3r_core.errors import ConflictError, InputMissingError

# Least or most of every ratio.
TARGETS = {
    "bytes_clean": ("most", 0.23),
    "bytes_noisy": ("most", 0.32),
    "bytes_independent": ("most", 0.45),
    "bytes_depth": ("most", 0.15),
    "bytes_all": ("most", 0.28),
    "write_cpu": ("most", 1 / 6),
    "commit_over_fdatasync": ("most", 1.4),
    "decode_cpu": ("least", 4.5),
    "decode_cpu_device_global": ("least", 9.0),
    "image_decode_cpu": ("least", 35.0),
    "loader_full": ("least", 8.0),
    "loader_subset": ("least", 10.0),
    "loader_ram": ("most", 0.25),
}
BYTES = ("bytes_clean", "bytes_noisy", "bytes_independent", "bytes_depth", "bytes_all")


def meets(name, ratio):
    kind, target = TARGETS[name]
    return ratio <= target if kind == "most" else ratio >= target


def test_a_short_run_has_every_key_and_the_bytes_reach_their_targets(data_dir, tmp_path):
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
    assert set(ratios) == set(TARGETS)
    assert all(ratio > 0 for ratio in ratios.values())
    assert {name for name in BYTES if not meets(name, ratios[name])} == set()
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["run.json"]
    again = bench_cache(settings)
    assert again.finished_before
    assert again.result == report.result
    with pytest.raises(ConflictError, match="rounds: 1 → 2"):
        bench_cache(replace(settings, rounds=2))


@pytest.mark.slow
@pytest.mark.alone
def test_every_target_is_reached(cli, data_dir, tmp_path):
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
