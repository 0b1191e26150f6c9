"""However a step's samples are divided, the step is the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill3r_core import config
from distill3r_core.models.families import train_presets
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.training import checkpoints

MakeCache = Callable[..., Path]
ALONE = (sys.executable, "-m", "distill3r_cli")
TORCHRUN = (
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("-m", "distill3r_cli"),
)


SETS = ("compute.precision=float64", "validation.every_steps=3", "checkpoint.every_steps=2")


# The other families: a preset, and settings.
FAMILIES = {
    "pairs": ("pair-tiny", "loss.terms.feature={weight: 0.1}", "data.mirror=false"),
    "scene": (
        "scene-vit",
        'scene=["00"]',
        "model.network={width: 16, depth: 1, heads: 2, head_width: 8, dropout: 0}",
    ),
}


def train_here(cache: Path, run: Path, *sets: str, preset: str = "tiny") -> None:
    given = {"preset": preset, "cache": cache, "output": run, "max_steps": 5, "device": "cpu"}
    settings = config.resolve(
        TrainSettings, section="train", options=given, sets=(*SETS, *sets), presets=train_presets()
    )
    train(settings)


def run_train(
    program: Sequence[str],
    cache: Path,
    run: Path,
    *more: str,
    status: int = 0,
    preset: str = "tiny",
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [
            *(*program, "train", "--preset", preset, "--cache", str(cache), "-o", str(run)),
            *("--max-steps", "5", "--device", "cpu", "--json"),
            *(word for pair in SETS for word in ("--set", pair)),
            *more,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def assert_equal_runs(first: Path, second: Path) -> None:
    mine, theirs = (
        load_file(run / "checkpoints" / "last" / "model.safetensors") for run in (first, second)
    )
    for name, tensor in mine.items():
        assert tensor.dtype == torch.float64
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def alone(make_cache: MakeCache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache, and a run of one process with four samples a step."""
    folder = tmp_path_factory.mktemp("alone")
    cache = make_cache(folder / "cache")
    train_here(cache, folder / "run", "data.batch=4")
    return cache, folder / "run"


def test_accumulated_micro_batches_are_one_batch(alone: tuple[Path, Path], tmp_path: Path) -> None:
    cache, run = alone
    train_here(cache, tmp_path / "run", "data.batch=1", "data.accumulation=4")
    assert_equal_runs(tmp_path / "run", run)


def test_two_processes_train_as_one_and_only_the_first_talks(
    alone: tuple[Path, Path], tmp_path: Path
) -> None:
    cache, run = alone
    done = run_train(TORCHRUN, cache, tmp_path / "run", "--set", "data.batch=2")
    assert_equal_runs(tmp_path / "run", run)
    assert done.stdout.count('"command": "train"') == 1
    rows, expected = (
        (folder / "metrics.jsonl").read_text().splitlines() for folder in (tmp_path / "run", run)
    )
    assert len(rows) == len(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_students_of_the_other_families_are_trained_by_two_processes_as_by_one(
    family: str, make_cache: MakeCache, tmp_path: Path
) -> None:
    preset, *sets = FAMILIES[family]
    # Pairs have a term with weights of its own, which no wrapper of the student knows.
    cache = make_cache(tmp_path / "cache", sizes=((32, 48),) * 4, features={"enc_norm": 5})
    train_here(cache, tmp_path / "whole", *sets, "data.batch=4", preset=preset)
    parts = ("data.batch=1", "data.accumulation=4")
    train_here(cache, tmp_path / "parts", *sets, *parts, preset=preset)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")
    words = [word for pair in (*sets, "data.batch=2") for word in ("--set", pair)]
    run_train(TORCHRUN, cache, tmp_path / "both", *words, preset=preset)
    assert_equal_runs(tmp_path / "both", tmp_path / "whole")


def test_gpus_launches_workers_and_a_lost_one_goes_on_from_the_last_checkpoint(
    alone: tuple[Path, Path], tmp_path: Path
) -> None:
    cache, run = alone
    # A worker that dies at its fourth step, the first time only.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "if os.environ.get('RANK') == '1':\n"
        "    mark = pathlib.Path(__file__).with_name('died')\n"
        "    from distill3r_core.training import loop\n"
        "    step = loop.accumulate\n"
        "    count = [0]\n"
        "    def dying(*args, **kwargs):\n"
        "        count[0] += 1\n"
        "        if count[0] == 4 and not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), 9)\n"
        "        return step(*args, **kwargs)\n"
        "    loop.accumulate = dying\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    program = ("env", f"PYTHONPATH={path}", *ALONE)
    run_train(program, cache, tmp_path / "run", "--set", "data.batch=2", "--gpus", "2")
    assert (tmp_path / "died").exists()
    assert "resuming from step " in (tmp_path / "run" / "log.txt").read_text()
    assert_equal_runs(tmp_path / "run", run)


@pytest.mark.parametrize("step", [1, 4], ids=["before a checkpoint", "after one"])
def test_a_worker_whose_memory_is_full_makes_all_go_on_with_half_the_micro_batch(
    step: int, alone: tuple[Path, Path], tmp_path: Path
) -> None:
    cache, run = alone
    # From some step on, two samples at once are more than the second worker's memory holds.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    import torch\n"
        "    from distill3r_core.models.multiview.student import MultiviewStudent\n"
        "    forward = MultiviewStudent.forward\n"
        "    count = [0]\n"
        "    def greedy(student, images, **options):\n"
        "        if student.training and len(images) > 1:\n"
        "            count[0] += 1\n"
        f"            if count[0] >= {step}:\n"
        "                torch.empty(1 << 60, dtype=torch.uint8)\n"
        "        return forward(student, images, **options)\n"
        "    MultiviewStudent.forward = greedy\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    program = ("env", f"PYTHONPATH={path}", *ALONE)
    done = run_train(program, cache, tmp_path / "run", "--set", "data.batch=2", "--gpus", "2")
    assert_equal_runs(tmp_path / "run", run)
    state = checkpoints.read(tmp_path / "run" / "checkpoints" / "last").state
    assert state["micro_batch"] == 1
    log = (tmp_path / "run" / "log.txt").read_text()
    for said in (log, done.stderr):
        assert "out of memory: now 1 samples at once and 2 passes a step" in said
        assert ("resuming from step 3" in said) == (step == 4)  # the best so far


@pytest.mark.slow
def test_sigterm_to_the_launcher_checkpoints_first_and_leaves_with_130(
    alone: tuple[Path, Path], tmp_path: Path
) -> None:
    cache, run = alone[0], tmp_path / "run"
    words = ["--cache", str(cache), "-o", str(run), "--max-steps", "5000", "--json"]
    with (tmp_path / "log").open("w") as log, (tmp_path / "json").open("w") as said:
        process = subprocess.Popen(
            [*ALONE, "train", "--preset", "tiny", "--device", "cpu", "--gpus", "2", *words],
            stdout=said,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    rows = run / "metrics.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end and not (rows.is_file() and rows.read_text().count("\n") > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 130
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    assert state["step"] == rows.read_text().count("gradient_norm")
    # one document, though rank 0 and the launcher were both told
    assert json.loads((tmp_path / "json").read_text())["error"]["message"] == "interrupted"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_gpus_that_are_not_there_are_an_error(alone: tuple[Path, Path], tmp_path: Path) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("two GPUs are there")
    cache, _ = alone
    done = run_train(ALONE, cache, tmp_path / "run", "--device", "cuda", "--gpus", "2", status=3)
    assert "there are" in done.stderr
    assert not (tmp_path / "run").exists()
