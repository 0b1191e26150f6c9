"""`distill3r train` as it is typed: options, exit statuses, what scripts read."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from small_caches import write_cache

from distill3r_core.models.families import preset_spec
from distill3r_core.stages.train import TrainSettings, train, train_settings
from distill3r_core.training import checkpoints

RunCli = Callable[..., tuple[int, str, str]]
RunProcess = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a small cache where `train` looks for it."""
    write_cache(tmp_path / "caches" / "teacher")
    (tmp_path / "distill3r.yaml").write_text("train: {preset: tiny, max_steps: 2}\n")
    return tmp_path


def test_as_typed_it_chains_from_the_cache_to_a_numbered_run(home: Path, cli: RunProcess) -> None:
    done = cli("train", cwd=home, env={"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "runs/tiny-001/checkpoints/best/model.safetensors" in done.stdout
    assert "distill3r infer" in done.stderr  # the next command
    assert "step" not in done.stdout.split("runs/tiny-001")[0]  # progress is on stderr


def test_scripts_read_one_object(home: Path, cli_inprocess: RunCli) -> None:
    status, out, _ = cli_inprocess("train", "--json", cwd=home)
    assert status == 0
    said = json.loads(out)
    assert said["command"] == "train"
    assert said["result"]["step"] == said["result"]["steps"] == 2
    assert said["settings"]["preset"] == "tiny"
    status, out, _ = cli_inprocess("train", "--resume", "--json", cwd=home)
    assert (status, json.loads(out)["result"]["run"]) == (0, "runs/tiny-001")
    assert not (home / "runs" / "tiny-002").exists()


def test_options_go_before_sets_and_sets_before_files(home: Path, cli_inprocess: RunCli) -> None:
    status, out, _ = cli_inprocess(
        "train", "--max-steps", "7", "--set", "max_steps=5", "--set", "data.views=8",
        "--set", "checkpoint.every_steps=4", "--recompute", "heads", "--print-config", "--json",
        cwd=home,
    )  # fmt: skip
    assert status == 0
    found = json.loads(out)
    assert found["max_steps"] == 7
    assert found["data"]["views"] == 8
    assert found["checkpoint"]["every_steps"] == 4
    assert found["compute"]["recompute"] == "heads"
    assert found["preset"] == "tiny"
    assert not (home / "runs").exists()


def printed(cli_inprocess: RunCli, home: Path, *arguments: str) -> dict[str, Any]:
    status, out, err = cli_inprocess("train", *arguments, "--print-config", "--json", cwd=home)
    assert status == 0, err
    return json.loads(out)


def test_configurations_compose(home: Path, cli_inprocess: RunCli) -> None:
    paper = printed(cli_inprocess, home, "--config", "paper-2602.00865")
    both = ("--config", "paper-2602.00865", "--config", "ablation-no-weighting")
    composed = printed(cli_inprocess, home, *both)
    assert composed == {**paper, "loss": {**paper["loss"], "weighting": "none"}}
    (home / "mine.yaml").write_text("train: {preset: tiny, optim: {lr: 3.0e-3}}\n")
    later = printed(cli_inprocess, home, *both, "--config", "mine.yaml")
    assert (later["preset"], later["optim"]["lr"]) == ("tiny", 3e-3)
    assert (later["optim"]["decay"], later["epochs"], later["seed"]) == ("all", 60, 42)
    assert later["schedule"]["final_lr"] == 5e-5  # of a file, above the preset's recipe
    assert later["schedule"]["steps"] == 800  # of the preset's recipe: no file has it
    earlier = printed(cli_inprocess, home, "--config", "mine.yaml", *both)
    assert (earlier["preset"], earlier["optim"]["lr"]) == ("paper", 1e-4)


def test_the_printed_settings_have_every_key_and_make_the_same_run(
    home: Path, cli_inprocess: RunCli
) -> None:
    found = printed(cli_inprocess, home, "--set", "model.fusion.depth=3")
    assert found.keys() == {field.name for field in fields(TrainSettings)}
    spec = preset_spec("tiny", {"fusion": {"depth": 3}})
    assert found["model"] == spec.as_plain()
    status, out, _ = cli_inprocess("train", "--print-config", cwd=home)
    assert status == 0
    # The section of distill3r.yaml and the preset's recipe: only the former is no default.
    assert "max_steps: 2  # default: null" in out and "views: 4\n" in out
    (home / "all.yaml").write_text(out)
    assert printed(cli_inprocess, home, "--config", "all.yaml") == printed(cli_inprocess, home)
    assert cli_inprocess("train", "-o", "runs/a", cwd=home)[0] == 0
    again = ("train", "-o", "runs/a", "--config", "all.yaml")
    status, _, err = cli_inprocess(*again, cwd=home)
    assert (status, "is finished" in err) == (0, True)


@pytest.mark.parametrize("wrong", ["model.fusion.dept=3", "model.fusion.depth=deep", "model=3"])
def test_the_model_is_checked_before_settings_are_printed(
    home: Path, cli_inprocess: RunCli, wrong: str
) -> None:
    status, out, err = cli_inprocess("train", "--set", wrong, "--print-config", cwd=home)
    assert (status, out) == (2, "")
    assert wrong.partition("=")[0] in err


def test_a_length_that_is_typed_replaces_the_other_one(home: Path, cli_inprocess: RunCli) -> None:
    found = printed(cli_inprocess, home, "--epochs", "3")  # distill3r.yaml has max_steps
    assert (found["epochs"], found["max_steps"]) == (3, None)
    found = printed(cli_inprocess, home, "--config", "paper-2602.00865", "--max-steps", "9")
    assert (found["epochs"], found["max_steps"]) == (None, 9)


def test_one_call_in_python_makes_the_run_of_the_command_line(
    home: Path, cli_inprocess: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ("--config", "ablation-no-weighting", "--preset", "tiny", "--max-steps", "2")
    assert cli_inprocess("train", *typed, "-o", "typed", "--seed", "3", cwd=home)[0] == 0
    monkeypatch.chdir(home)
    settings = train_settings(
        configs=["ablation-no-weighting"], preset="tiny", max_steps=2, seed=3, output="called"
    )
    train(settings)
    files = [Path(run) / "checkpoints/best/model.safetensors" for run in ("typed", "called")]
    assert files[0].read_bytes() == files[1].read_bytes()


def rates(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["learning_rate"] for row in rows if "learning_rate" in row]


def moments(run: Path) -> set[float]:
    """Optimizer steps that the parameters have seen."""
    kept = checkpoints.read(run / "checkpoints" / "last").optimizer()["optimizer"]
    return {float(values["step"]) for values in kept["state"].values()}


def test_a_finished_run_is_extended_with_its_optimizer(home: Path, cli_inprocess: RunCli) -> None:
    assert cli_inprocess("train", "--max-steps", "3", "-o", "runs/a", cwd=home)[0] == 0
    run = home / "runs" / "a"
    first, kept = rates(run), (run / "checkpoints/step-000003/model.safetensors").read_bytes()
    more = ("train", "--resume", "--max-steps", "5", "-o", "runs/a", "--json")
    status, out, err = cli_inprocess(*more, cwd=home)
    assert status == 0, err
    assert json.loads(out)["result"]["step"] == json.loads(out)["result"]["steps"] == 5
    assert "extended from 3 to 5 steps" in err
    assert rates(run) == [*first, pytest.approx(1.5e-5), pytest.approx(1.5e-5)]
    assert moments(run) == {5.0}
    assert (run / "checkpoints/step-000003/model.safetensors").read_bytes() == kept
    assert "is finished" in cli_inprocess(*more[:-1], cwd=home)[2]
    again = ("--set", "schedule.extend=cosine", "--epochs", "9")
    status, out, err = cli_inprocess("train", "--resume", *again, "--json", cwd=home)
    assert status == 0, err
    result = json.loads(out)["result"]
    assert result["run"] == "runs/a"  # the newest run, without -o
    assert result["step"] == result["steps"] > 5
    assert rates(run)[5] == pytest.approx(1.5e-3)  # the peak again
    assert rates(run)[5:] == sorted(rates(run)[5:], reverse=True)


def test_a_run_may_be_extended_before_it_has_ended(home: Path, cli_inprocess: RunCli) -> None:
    def train_to(run: str, steps: int, *more: str) -> None:
        typed = ("train", "--max-steps", str(steps), "-o", run, *more)
        status, _, err = cli_inprocess(*typed, cwd=home)
        assert status == 0, err

    train_to("whole", 3)
    train_to("whole", 5, "--resume")
    train_to("early", 3, "--max-hours", "1e-9")  # ends after a step
    train_to("early", 5, "--resume")
    files = [home / run / "checkpoints/last/optimizer.pt" for run in ("whole", "early")]
    states = [torch.load(file, weights_only=True)["optimizer"] for file in files]
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize("other", [("--max-steps", "2"), ("--max-steps", "5", "--seed", "1")])
def test_what_is_no_extension_is_a_conflict(
    home: Path, cli_inprocess: RunCli, other: tuple[str, ...]
) -> None:
    assert cli_inprocess("train", "--max-steps", "3", "-o", "runs/a", cwd=home)[0] == 0
    status, _, err = cli_inprocess("train", "--resume", "-o", "runs/a", *other, cwd=home)
    assert (status, f"max_steps: 3 → {other[1]}" in err) == (2, True)


def test_a_longer_run_without_resume_is_a_conflict_that_names_it(
    home: Path, cli_inprocess: RunCli
) -> None:
    assert cli_inprocess("train", "--max-steps", "3", "-o", "runs/a", cwd=home)[0] == 0
    status, _, err = cli_inprocess("train", "--max-steps", "5", "-o", "runs/a", cwd=home)
    assert (status, "--resume" in err) == (2, True)


def test_every_problem_of_the_settings_is_named_at_once(home: Path, cli_inprocess: RunCli) -> None:
    status, _, err = cli_inprocess(
        "train", "--set", "loss.alpha_g=1", "--set", "optim.lr=fast", "--set", "data.batch=0",
        cwd=home,
    )  # fmt: skip
    assert status == 2
    assert all(name in err for name in ("loss.alpha_g", "optim.lr", "data.batch"))
    status, _, err = cli_inprocess("train", "--preset", "huge", cwd=home)
    assert status == 2
    assert "huge" in err


def test_what_is_missing_has_status_three(
    tmp_path: Path, home: Path, cli_inprocess: RunCli
) -> None:
    (tmp_path / "empty").mkdir()
    status, _, err = cli_inprocess("train", cwd=tmp_path / "empty")
    assert status == 3
    assert "distill3r cache" in err
    assert not (tmp_path / "empty" / "runs").exists()
    for option in (("--device", "cuda:9"), ("--from", "nowhere"), ("--config", "nothing")):
        status, _, err = cli_inprocess("train", *option, cwd=home)
        assert status == 3, (option, err)


def test_a_new_run_may_start_from_the_weights_of_another(home: Path, cli_inprocess: RunCli) -> None:
    assert cli_inprocess("train", cwd=home)[0] == 0
    status, _, err = cli_inprocess("train", "--from", "runs/tiny-001", "--json", cwd=home)
    assert status == 0
    assert "starting from the weights in runs/tiny-001" in err
    first, second = (
        (home / "runs" / run / "metrics.jsonl").read_text().splitlines()
        for run in ("tiny-001", "tiny-002")
    )
    assert json.loads(second[0])["loss"] < json.loads(first[0])["loss"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--from", "nowhere"),
        ("--set", "encoder_weights=nowhere.pth", "--set", "preset=paper"),
        ("--set", "model.no_such_part=1"),
    ],
)
@pytest.mark.parametrize("where", [(), ("-o", "mine/run")])
def test_a_start_that_fails_leaves_nothing(
    home: Path, cli_inprocess: RunCli, wrong: tuple[str, ...], where: tuple[str, ...]
) -> None:
    before = sorted(home.rglob("*"))
    assert cli_inprocess("train", *wrong, *where, cwd=home)[0] in (2, 3)
    assert sorted(home.rglob("*")) == before
    assert cli_inprocess("train", *where, cwd=home)[0] == 0


def test_a_start_that_fails_does_not_take_another_runs_place(
    home: Path, cli_inprocess: RunCli
) -> None:
    assert cli_inprocess("train", "-o", "run", cwd=home)[0] == 0
    kept = {path: path.read_bytes() for path in (home / "run").rglob("*") if path.is_file()}
    again = ("train", "-o", "run", "--overwrite", "--seed", "1")
    assert cli_inprocess(*again, "--from", "nowhere", cwd=home)[0] == 3
    assert {p: p.read_bytes() for p in (home / "run").rglob("*") if p.is_file()} == kept
    status, _, err = cli_inprocess(*again, "--from", "run", cwd=home)  # its own replacement
    assert status == 0
    assert "starting from the weights in run" in err
    assert "starting from the weights in run" in (home / "run/log.txt").read_text()


def test_the_next_command_can_be_typed_as_it_stands(home: Path, cli_inprocess: RunCli) -> None:
    status, _, err = cli_inprocess("train", "-o", "my run", cwd=home)
    assert status == 0
    assert "`distill3r eval 'my run'`" in err


def test_the_default_preset_is_made_for_this_machine() -> None:
    import torch

    from distill3r_core.stages.train import default_preset

    assert default_preset() == ("paper" if torch.cuda.is_available() else "small")


def test_tensorboard_gets_the_rows_or_its_absence_is_told(
    home: Path, cli_inprocess: RunCli
) -> None:
    status, _, err = cli_inprocess("train", "--set", "tensorboard=true", cwd=home)
    if status == 3:
        assert "pip install 'distill3r[tb]'" in err
    else:
        assert status == 0, err
        assert list((home / "runs" / "tiny-001" / "tensorboard").glob("events*"))


def test_the_summary_gives_the_figure_of_the_best_checkpoint(
    home: Path, cli_inprocess: RunCli
) -> None:
    worse = ("--set", "optim.lr=0.03", "--set", "schedule.warmup_steps=2")
    often = ("--set", "validation.every_steps=1", "--max-steps", "2")
    status, out, err = cli_inprocess("train", *worse, *often, "-o", "runs/a", cwd=home)
    assert status == 0, err
    lines = (home / "runs/a/metrics.jsonl").read_text().splitlines()
    rows = [row for line in lines if "validation_loss" in (row := json.loads(line))]
    best = min(rows, key=lambda row: row["validation_shape"])
    assert best is not rows[-1]  # else this test shows nothing
    (shown,) = [line for line in out.splitlines() if "held-out loss" in line]
    assert f"`best`, step {best['step']}" in shown
    assert f"{best['validation_loss']:.4g}" in shown
    again = cli_inprocess("train", *worse, *often, "-o", "runs/a", cwd=home)[1]
    assert shown in again
