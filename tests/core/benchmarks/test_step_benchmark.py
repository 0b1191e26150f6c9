"""What a training step costs, measured small."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_caches import made_sample

from distill3r_core import config
from distill3r_core.benchmarks.training import BenchTrainSettings, bench_train, step_loops
from distill3r_core.benchmarks.training.step_loops import StepLoops
from distill3r_core.data.loading.batches import Batch, Draw, map_targets
from distill3r_core.errors import OutOfMemoryError
from distill3r_core.models import build_student
from distill3r_core.models.families import train_presets
from distill3r_core.models.multiview.family import MULTIVIEW
from distill3r_core.models.multiview.published import published_forward
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.stages.train.student import freeze_unused
from distill3r_core.training.settings import TrainSettings

SHRUNKEN = {
    "encoder": {"width": 24, "depth": 1, "heads": 2},
    "fusion": {"width": 24, "depth": 3, "heads": 2},
    "heads": {"features": 8, "layers": [8, 8, 8, 8], "tail": 8},
}
RunCli = Callable[..., tuple[int, str, str]]


def small_bench(output: Path, **changes: Any) -> BenchTrainSettings:
    return BenchTrainSettings(
        preset="tiny", batch=2, views=2, size=(28, 42), rounds=2, model=SHRUNKEN, output=output,
        **changes,
    )  # fmt: skip


def test_both_loops_are_timed_and_compared(tmp_path: Path) -> None:
    settings = small_bench(tmp_path / "bench")
    result = bench_train(settings).result
    for loop in ("step", "one_at_a_time"):
        assert all(result[loop][part] > 0 for part in ("forward", "backward", "optimizer", "cpu"))
        seconds = result[loop]["seconds"]
        assert 0 < seconds["least"] <= seconds["median"] <= seconds["most"]
        assert result[loop]["peak_bytes"]["resident"] > 0
        assert result[loop]["kernels"] is None  # of a GPU only
    assert result["step"]["data"] > 0
    assert 0 < result["step"]["data_share"] < 1
    ours, theirs = (result[loop]["seconds"]["median"] for loop in ("step", "one_at_a_time"))
    assert result["ratio"] == pytest.approx(theirs / ours)
    assert result["ratio_of_pairs"]["least"] <= result["ratio_of_pairs"]["most"]
    assert result["samples_per_second"]["needed"] == pytest.approx(2 / ours)
    assert bench_train(settings).finished_before
    record = json.loads((tmp_path / "bench/run.json").read_text())
    assert record["result"] == result
    assert record["identity"]["machine"]["device"] == "cpu"


def test_both_loops_take_the_same_step() -> None:
    """They are two ways to compute one thing: the weights after it tell them apart by rounding."""
    recipe = config.validate(TrainSettings, train_presets()["tiny"], source="the preset")
    images, targets = made_sample(0, views=2, size=(28, 42))
    batch = Batch(
        images=torch.stack([images, images.flip(1)]),
        targets=map_targets(targets, lambda values: torch.stack([values, values.flip(0)])),
        view_numbers=torch.tensor([[0, 3], [0, 7]]),
        colors=None,
        draws=(Draw("a", 0), Draw("b", 0)),
    )
    gradients = []
    for name in ("batched", "one_at_a_time"):
        torch.manual_seed(0)
        student = build_student("tiny", **SHRUNKEN).train()
        freeze_unused(student)
        getattr(StepLoops(student, recipe, torch.device("cpu")), name)(batch)
        gradients.append([p.grad for p in student.parameters() if p.requires_grad])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_bench_without_the_other_loop_says_nothing_of_it(tmp_path: Path) -> None:
    report = bench_train(small_bench(tmp_path / "bench", compare="none"))
    assert report.result["one_at_a_time"] is None
    assert report.result["ratio"] is None
    assert [row[0] for row in report.tables[0].rows] == ["batched"]


def too_large(*_: object) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)  # torch's own word for a full memory


def test_a_loop_that_does_not_fit_into_memory_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepLoops, "one_at_a_time", too_large)
    report = bench_train(small_bench(tmp_path / "bench"))
    assert "allocate" in report.result["one_at_a_time"]["out_of_memory"]
    assert report.result["step"]["seconds"]["median"] > 0
    assert report.result["ratio"] is None
    assert "out of memory" in report.tables[0].rows[1]
    monkeypatch.setattr(StepLoops, "batched", too_large)
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        bench_train(small_bench(tmp_path / "other"))


def test_recomputation_reaches_the_batched_loop_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, str]] = []

    def watched(forward: Callable[..., Any], *, published: bool) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            asked.append((published, named.get("recompute", "none")))
            return forward(*arguments, **named)

        return run

    fast = watched(MultiviewStudent.forward, published=False)
    monkeypatch.setattr(MultiviewStudent, "forward", fast)
    family = replace(MULTIVIEW, published=watched(published_forward, published=True))
    monkeypatch.setattr(step_loops, "family_of", lambda spec: family)
    bench_train(small_bench(tmp_path / "bench", recompute="heads"))
    assert {(True, "none"), (False, "heads")} <= set(asked)
    assert (True, "heads") not in asked
    assert asked.count((False, "none")) <= 1  # the look for parameters that nothing uses


@pytest.mark.parametrize("size", ["112", "0x154", "axb"])
def test_a_size_that_is_none_is_refused(size: str, tmp_path: Path, cli_inprocess: RunCli) -> None:
    status, _, err = cli_inprocess("bench", "train", "--size", size, cwd=tmp_path)
    assert status == 2
    assert size in err
