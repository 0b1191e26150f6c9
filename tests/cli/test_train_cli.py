"""`distill3r train` as it is typed: options, exit statuses, what scripts read."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from small_caches import write_cache

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
