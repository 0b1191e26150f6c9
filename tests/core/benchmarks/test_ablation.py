"""What the loss is worth: a fair comparison, scored against the truth, that can be stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from distill3r_core import config
from distill3r_core.benchmarks.ablation import AblationSettings, bench_ablation
from distill3r_core.benchmarks.ablation.rendered_rooms import noisy_targets, true_scene
from distill3r_core.benchmarks.ablation.score_tables import ERRORS, FIGURES, paired, summary
from distill3r_core.benchmarks.ablation.student_trial import (
    Rooms,
    Trial,
    batches,
    new_student,
    rooms,
    run_trial,
)
from distill3r_core.benchmarks.ablation.study import VARIANTS
from distill3r_core.errors import DamageError, FailedError
from distill3r_core.losses.planes import PlaneOptions, find_planes
from distill3r_core.models.families import train_presets
from distill3r_core.training.settings import LossSettings, TrainSettings

RunCli = Callable[..., tuple[int, str, str]]

SHRUNKEN = {
    "encoder": {"width": 24, "depth": 1, "heads": 2},
    "fusion": {"width": 24, "depth": 3, "heads": 2},
    "heads": {"features": 8, "layers": [8, 8, 8, 8], "tail": 8},
}
SMALL: dict[str, Any] = {
    "size": [28, 42],
    "scenes": 1,
    "frames": 6,
    "every": 3,
    "views": 2,
    "variants": ["full", "labels-only"],
    "model": SHRUNKEN,
}
TRIAL = Trial(
    variant="full", loss=LossSettings(), seed=3, steps=2, batch=1, views=2, size=(28, 42),
    scenes=1, frames=6, every=3, lr=1e-3, model=SHRUNKEN,
)  # fmt: skip
STARTED = 240.0  # seconds that a process may take for its first student


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


def test_outliers_lie_far_away_and_at_edges() -> None:
    scene = true_scene(0, 8, (84, 112))
    said = noisy_targets(scene, seed=1)
    ratio = (said.points_local[..., 2] / scene.depth).log().abs()
    outlier = (ratio > 0.25) & said.valid_mask
    far = scene.depth > torch.quantile(scene.depth, 0.8)
    near = scene.depth < torch.quantile(scene.depth, 0.2)
    assert outlier[far].float().mean() > 2 * outlier[near].float().mean()
    # The teacher is less sure of edges, and outliers are where it is less sure.
    unsure = said.confidence_local < torch.quantile(said.confidence_local, 0.2)
    assert outlier[unsure].float().mean() > 2 * outlier[~unsure].float().mean()


def test_students_of_one_seed_differ_in_their_loss_alone() -> None:
    other = replace(TRIAL, variant="labels-only", loss=LossSettings(weighting="none", gamma=0.0))
    mine, theirs = (new_student(trial).state_dict() for trial in (TRIAL, other))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    shown = [list(batches(trial, Rooms(trial, rooms(trial)))) for trial in (TRIAL, other)]
    assert len(shown[0]) == TRIAL.steps
    for one, two in zip(*shown, strict=True):
        assert one.draws == two.draws
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.view_numbers, two.view_numbers)
        assert torch.equal(one.targets.points_local, two.targets.points_local)
    seeded = new_student(replace(TRIAL, seed=4)).state_dict()
    assert not all(torch.equal(mine[name], seeded[name]) for name in mine)


def test_a_teacher_that_never_errs_has_a_perfect_score(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "distill3r_core.benchmarks.ablation.student_trial.noisy_targets"
    monkeypatch.setattr(module, lambda scene, *, seed: scene.targets)
    score = run_trial(replace(TRIAL, loss=None), lambda: None).score
    errors = [getattr(score, name) for name in ERRORS]
    assert errors == pytest.approx([0.0] * len(ERRORS), abs=1e-4)
    assert score.scale == pytest.approx(1.0, abs=1e-4)


def test_a_unit_changes_the_scale_alone_and_a_bent_room_the_global_figures_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = "distill3r_core.benchmarks.ablation.student_trial.noisy_targets"

    def in_half_meters(scene: Any, *, seed: int) -> Any:
        exact = scene.targets
        moved = exact.global_from_local.clone()
        moved[..., 3] *= 2
        return replace(exact, points_local=2 * exact.points_local, global_from_local=moved)

    monkeypatch.setattr(module, in_half_meters)
    score = run_trial(replace(TRIAL, loss=None), lambda: None).score
    assert score.scale == pytest.approx(0.5, abs=1e-4)
    assert [getattr(score, name) for name in ERRORS] == pytest.approx([0] * len(ERRORS), abs=1e-4)

    def bent(scene: Any, *, seed: int) -> Any:
        moved = scene.targets.global_from_local.clone()
        moved[3:, 0, 3] += 0.5  # meters, the second held-out view beside where it is
        return replace(scene.targets, global_from_local=moved)

    monkeypatch.setattr(module, bent)
    score = run_trial(replace(TRIAL, loss=None), lambda: None).score
    assert score.acc == pytest.approx(0.0, abs=1e-4)
    assert score.global_error > 0.1
    assert score.acc_global > 0.001
    assert score.comp_global > 0.001


def test_the_ablation_scores_every_loss_from_every_seed_against_the_truth(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    arguments = ("bench", "ablation", "--seeds", "2", "--steps", "2", *config_of(tmp_path))
    status, out, err = cli_inprocess(*arguments, "--json", cwd=tmp_path)
    assert status == 0, err
    result = json.loads(out)["result"]
    assert [row["variant"] for row in result["rows"]] == ["full", "labels-only"]
    assert {(run["variant"], run["seed"]) for run in result["runs"]} == {
        (variant, seed) for variant in ("full", "labels-only") for seed in (0, 1)
    }
    assert all(set(FIGURES) <= set(run) and 0 <= run["clipped"] <= 1 for run in result["runs"])
    assert result["teacher"]["mean"]["acc"] < result["rows"][0]["mean"]["acc"]
    assert [(row["variant"], row["against"]) for row in result["paired"]] == [
        ("labels-only", "full")
    ]
    status, out, err = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0
    assert "nothing was done" in err
    assert "±" in out
    assert "More than full from the same seed" in out


def config_of(folder: Path, **changes: Any) -> tuple[str, str]:
    path = folder / "small.yaml"
    path.write_text(json.dumps({**SMALL, **changes}))
    return "--config", str(path)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "distill3r_cli", "bench", "ablation", *arguments],
        cwd=folder, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + STARTED
    while not there():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_ablation_that_is_stopped_and_killed_goes_on_with_what_is_missing(
    tmp_path: Path,
) -> None:
    settings = config_of(tmp_path, variants=["full"])
    arguments = ("-o", "out", "--steps", "100", "--seeds", "2", *settings)
    students = tmp_path / "out" / "students"

    def kept() -> dict[str, int]:
        # Without those that are being written: a dot, and `.partial` in their names.
        return {path.name: path.stat().st_mtime_ns for path in students.glob("[!.]*.json")}

    process = start(tmp_path, *arguments)
    wait_for(lambda: len(kept()) >= 1, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command continues" in err
    assert not psutil.wait_procs(workers, timeout=10)[1]
    first = kept()
    assert 1 <= len(first) < 4

    process = start(tmp_path, *arguments)
    wait_for(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 2, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=60)
    assert not psutil.wait_procs(workers, timeout=30)[1], "they go on though nobody waits"
    second = kept()
    assert len(second) < 4

    process = start(tmp_path, *arguments, "--json")
    out, err = process.communicate(timeout=STARTED)
    assert process.returncode == 0, err
    assert f"{len(second)} of 4 are there already" in err
    after = kept()
    assert len(after) == 4
    assert {name: after[name] for name in second} == second, "a finished student was done again"

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for run in json.loads(out)["result"]["runs"]:
        trial = replace(TRIAL, seed=run["seed"], steps=100, lr=AblationSettings().lr)
        score = run_trial(trial, lambda: None).score
        assert {name: run[name] for name in FIGURES} == vars(score)
    torch.set_num_threads(threads)


def test_students_of_other_settings_are_a_conflict_and_are_never_counted(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    def run(*more: str) -> tuple[int, str, str]:
        arguments = ("-o", "out", "--seeds", "1", *config_of(tmp_path, variants=["full"]))
        return cli_inprocess("bench", "ablation", *arguments, *more, cwd=tmp_path)

    assert run("--steps", "1")[0] == 0
    status, _, err = run("--steps", "2")
    assert status == 2
    assert "steps: 1 → 2" in err
    status, out, err = run("--steps", "2", "--overwrite", "--json")
    assert status == 0
    assert "there already" not in err
    assert json.loads(out)["settings"]["steps"] == 2


def test_another_loss_and_width_go_into_every_student(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    """A researcher's term of a plugin, `loss` and `model`: the variants differ as before."""
    plugin = Path(__file__).parents[2] / "extending" / "toy_loss_term.py"
    arguments = ("bench", "ablation", "-o", "out", "--seeds", "1", "--steps", "1", "--json")
    changed = ("--set", "loss.terms.smoothness={weight: 0.5}", "--set", "model.fusion.width=32")
    more = (*config_of(tmp_path), "--plugin", plugin, *changed)
    status, out, err = cli_inprocess(*arguments, *more, cwd=tmp_path)
    assert status == 0, err
    assert {row["variant"] for row in json.loads(out)["result"]["rows"]} == set(SMALL["variants"])
    for path in (tmp_path / "out" / "students").glob("*.json"):
        trial = json.loads(path.read_text())["trial"]
        assert trial["model"]["fusion"]["width"] == 32
        if trial["loss"] is not None:  # not of the teacher
            assert trial["loss"]["terms"]["smoothness"]["weight"] == 0.5
            assert (trial["loss"]["gamma"] == 0) == (trial["variant"] == "labels-only")
    for wrong in ("loss.terms.smoothness={wieght: 1}", "loss.gama=1", "model.fusion.width=97"):
        arguments = ("bench", "ablation", "-o", "other", "--plugin", plugin, "--set", wrong)
        for printed in ((), ("--print-config",)):
            status, _, err = cli_inprocess(*arguments, *printed, cwd=tmp_path)
            assert status == 2 and wrong.split(".")[1].split("=")[0] in err, err
    assert not (tmp_path / "other").exists()


def identity(settings: AblationSettings) -> dict[str, Any]:
    plain = config.as_plain(settings)
    return {"settings": {key: plain[key] for key in plain if key not in ("output", "processes")}}


def test_a_damaged_student_is_named(tmp_path: Path) -> None:
    settings = AblationSettings(**SMALL, steps=1, seeds=1, output=tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".started.json").write_text(json.dumps({"identity": identity(settings)}))
    (tmp_path / "out" / "students").mkdir()
    (tmp_path / "out" / "students" / "full-0.json").write_text('{"trial"')
    with pytest.raises(DamageError, match=r"full-0\.json is damaged"):
        bench_ablation(settings)


def test_a_student_that_cannot_be_scored_ends_the_run_with_its_name(tmp_path: Path) -> None:
    settings = AblationSettings(**SMALL, steps=3, seeds=1, lr=1e30, output=tmp_path / "out")
    losses = "|".join(VARIANTS)  # two run at once, and any may be the first to fail
    with pytest.raises(FailedError, match=rf"^({losses}), seed 0: room-0"):
        bench_ablation(settings)


def test_settings_that_cannot_work_are_refused_at_once(
    tmp_path: Path, cli_inprocess: RunCli
) -> None:
    for setting, said in (
        ("views=41", "too few for 41 views"),
        ("size=84x113", "multiples of 14"),
        ("variants=[full, full]", "stands twice"),
        ("every=1", "at least 2"),
    ):
        status, _, err = cli_inprocess("bench", "ablation", "--set", setting, cwd=tmp_path)
        assert status == 2, setting
        assert said in err
    assert not list(tmp_path.iterdir())


def run_of(variant: str, seed: int, acc: float) -> dict[str, Any]:
    return {"variant": variant, "seed": seed, **dict.fromkeys(FIGURES, 0.0), "acc": acc}


def test_means_and_spreads_are_over_seeds() -> None:
    scores = [run_of("full", 0, 1.0), run_of("full", 1, 3.0), run_of("other", 0, 9.0)]
    found = summary("full", scores)
    assert found["mean"]["acc"] == 2.0
    assert found["spread"]["acc"] == pytest.approx(2**0.5)
    assert summary("full", scores[:1])["spread"]["acc"] is None


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds may differ by more than losses do: the spread of the differences is what counts."""
    scores = [run_of("full", s, 10.0 * s) for s in range(3)]
    scores += [run_of("none", s, 10.0 * s + extra) for s, extra in enumerate((1.0, 2.0, -3.0))]
    found = paired("none", "full", scores)
    assert found["mean"]["acc"] == pytest.approx(0.0)
    assert found["spread"]["acc"] == pytest.approx(7**0.5)
    assert found["above"]["acc"] == 2
    assert found["seeds"] == 3


def test_the_four_losses_of_table_three_are_compared_unless_others_are_named() -> None:
    assert AblationSettings().variants == (
        "labels-only",
        "no-weighting",
        "full",
        "student-confidence",
    )


def test_the_planar_prior_finds_planes_in_what_the_imperfect_teacher_says() -> None:
    """Its thinnest cells are a tenth as thick as wide: with the term's own bound there are none."""
    shipped = config.resolve(
        TrainSettings, section="train", config="ablation-planar", presets=train_presets()
    )
    term = shipped.loss.all_terms["planar"]
    assert isinstance(term, PlaneOptions) and term.weight > 0
    scene = true_scene(3, 4, AblationSettings().size)
    said = noisy_targets(scene, seed=0)
    labels = find_planes(said.points_local, said.valid_mask, options=term)
    assert (labels >= 0).float().mean() > 0.03
    strict = find_planes(said.points_local, said.valid_mask, options=PlaneOptions(weight=1.0))
    assert (strict < 0).all()
