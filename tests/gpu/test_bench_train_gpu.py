"""`bench train` on a GPU: what each loop takes of it, by itself."""

import pytest
import torch

from distill3r_core.benchmarks.training import BenchTrainSettings, bench_train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def bench(output, *, preset="small", views=4, **changes):
    settings = BenchTrainSettings(
        preset=preset, batch=4, views=views, size=(112, 154), rounds=2, device="cuda",
        output=output, **changes,
    )  # fmt: skip
    return bench_train(settings).result


def test_batched_launches_a_fraction_of_the_kernels(tmp_path):
    result = bench(tmp_path / "bench")
    ours, theirs = result["step"], result["one_at_a_time"]
    assert 0 < ours["kernels"] < theirs["kernels"] / 3
    for found in (ours, theirs):
        assert 0 < found["peak_bytes"]["allocated"] <= found["peak_bytes"]["reserved"]
        parts = found["forward"] + found["backward"] + found["optimizer"]
        assert found["seconds"]["median"] == pytest.approx(parts, rel=0.5)
    assert result["ratio"] > 1


def test_recomputation_of_heads_takes_less_memory(tmp_path):
    # More views than go through a head at once: one chunk is all that recomputation keeps.
    settings = {"preset": "paper", "views": 12, "compare": "none"}
    plain, again = (
        bench(tmp_path / how, recompute=how, **settings)["step"]["peak_bytes"]
        for how in ("none", "heads")
    )
    assert again["allocated"] < 0.8 * plain["allocated"], (again, plain)
