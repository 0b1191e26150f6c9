"""What training costs and what its loss is worth, measured small."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distill3r_core.stages.bench.ablation.run import AblationSettings, summary
from distill3r_core.stages.bench.ablation.scenes import noisy_targets, true_scene
from distill3r_core.stages.bench.train import BenchTrainSettings, bench_train

SHRUNKEN = {
    "encoder_width": 24,
    "encoder_depth": 1,
    "encoder_heads": 2,
    "fusion_width": 24,
    "fusion_depth": 3,
    "fusion_heads": 2,
    "head_features": 8,
    "head_layers": [8, 8, 8, 8],
    "head_tail": 8,
}
RunCli = Callable[..., tuple[int, str, str]]


def test_both_loops_are_timed_and_compared(tmp_path: Path) -> None:
    settings = BenchTrainSettings(
        preset="tiny", batch=2, views=2, size=(28, 42), rounds=1, model=SHRUNKEN,
        output=tmp_path / "bench",
    )  # fmt: skip
    result = bench_train(settings).result
    for loop in ("step", "one_at_a_time"):
        assert all(result[loop][part] > 0 for part in ("forward", "backward", "optimizer", "cpu"))
    assert result["step"]["data"] > 0
    ours, theirs = (
        sum(result[loop][part] for part in ("forward", "backward", "optimizer"))
        for loop in ("step", "one_at_a_time")
    )
    assert result["ratio"] == pytest.approx(theirs / ours)
    assert result["samples_per_second"]["needed"] == pytest.approx(2 / ours)
    assert 0 < result["data_wait_share"] < 1
    assert bench_train(settings).finished_before


def test_a_noisy_teacher_errs_where_it_is_unsure() -> None:
    scene = true_scene(0, 3, (84, 112))
    said = noisy_targets(scene, seed=1)
    depth = said.points_local[..., 2]
    error = (depth / scene.depth).log().abs()[said.valid_mask]
    confidence = said.confidence_local[said.valid_mask]
    low, high = torch.quantile(confidence, torch.tensor([0.1, 0.9]))
    assert error[confidence < low].mean() > 2 * error[confidence > high].mean()
    assert error.max() > 0.3  # outliers
    # Errors lie along the rays, so that a pixel stays where it is seen.
    ray = scene.targets.points_local / scene.depth[..., None]
    torch.testing.assert_close(
        said.points_local[said.valid_mask], (depth[..., None] * ray)[said.valid_mask]
    )
    assert said.valid_mask.float().mean() > 0.9
    other = noisy_targets(scene, seed=2)
    assert not torch.equal(other.points_local, said.points_local)


def test_the_ablation_scores_every_loss_from_every_seed_against_the_truth(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(
        json.dumps(
            {
                "size": [28, 42],
                "scenes": 1,
                "frames": 6,
                "every": 3,
                "views": 2,
                "processes": 1,
                "variants": ["full", "labels-only"],
                "model": SHRUNKEN,
            }
        )
    )
    arguments = ("bench", "ablation", "--seeds", "2", "--steps", "2", "--config", str(config))
    status, out, err = cli_inprocess(*arguments, "--json", cwd=tmp_path)
    assert status == 0, err
    result = json.loads(out)["result"]
    assert [row["variant"] for row in result["rows"]] == ["full", "labels-only"]
    assert {(run["variant"], run["seed"]) for run in result["runs"]} == {
        (variant, seed) for variant in ("full", "labels-only") for seed in (0, 1)
    }
    assert result["teacher"]["acc"] < result["rows"][0]["mean"]["acc"]
    status, out, err = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0
    assert "nothing was done" in err
    assert "±" in out


def test_means_and_spreads_are_over_seeds() -> None:
    figures = {"comp": 1.0, "scale_spread": 0.0, "global_error": 0.0}
    scores = [{"variant": "full", "seed": s, "acc": a, **figures} for s, a in ((0, 1.0), (1, 3.0))]
    found = summary("full", scores)
    assert found["mean"]["acc"] == 2.0
    assert found["spread"]["acc"] == pytest.approx(2**0.5)
    assert summary("full", scores[:1])["spread"]["acc"] is None


def test_the_four_losses_of_table_three_are_compared_unless_others_are_named() -> None:
    assert AblationSettings().variants == (
        "labels-only",
        "no-weighting",
        "full",
        "student-confidence",
    )
