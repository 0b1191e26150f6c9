"""Forwards of a benchmark for real: in this process, and in those that it starts."""

import math
from dataclasses import replace

import pytest
import torch

from distill3r_core.errors import (
    FailedError,
    InputMissingError,
    OutOfMemoryError,
)
from distill3r_core.stages.benchmark import BenchSettings
from distill3r_core.stages.benchmark import models as bench_models
from distill3r_core.stages.benchmark import run_benchmark as benchmark
from distill3r_core.stages.benchmark import worker_process as bench_process
from distill3r_core.stages.benchmark.models import BenchModel
from distill3r_core.stages.benchmark.worker_process import TooSlowError, WorkerProcess
from distill3r_core.teachers.fast3r_network import Fast3R


def _model(name, preset="tiny", precision="float32", size=(28, 42), head="both"):
    return BenchModel(name, preset, None, torch.device("cpu"), precision, size, head)


def _run(**values):
    return benchmark.benchmark(BenchSettings(device="cpu", **values))


def test_a_process_that_dies_is_named_with_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "dying.py").write_text("import sys; sys.exit('no such luck')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WorkerProcess("dying") as process, pytest.raises(FailedError, match="no such luck"):
        process.ask({})


def test_a_process_that_says_nothing_is_given_up_and_ended(tmp_path, monkeypatch):
    (tmp_path / "sleepy.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WorkerProcess("sleepy") as process:
        with pytest.raises(TooSlowError):
            process.ask({}, seconds=0.2)
        child = process._process
    assert child.poll() is not None


def test_a_process_that_the_system_killed_ran_out_of_memory(tmp_path, monkeypatch):
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    (tmp_path / "killed.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with WorkerProcess("killed") as process, pytest.raises(OutOfMemoryError):
        process.ask({})


def test_a_process_without_memory_says_so_itself():
    model = _model("student", size=(378, 518))
    request = {"model": model.as_plain(), "views": 4, "seed": 0}
    with WorkerProcess() as process, pytest.raises(OutOfMemoryError, match="allocate"):
        process.ask({**request, "memory_bytes": 2 * 10**8})


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_teachers_forwards_run_as_they_are_named(monkeypatch, precision):
    small = {"encoder_width": 64, "encoder_depth": 2, "encoder_heads": 2}
    small |= {"decoder_width": 64, "decoder_depth": 4, "decoder_heads": 2}
    monkeypatch.setattr(bench_models, "RELEASED", replace(bench_models.RELEASED, **small))
    real, calls = Fast3R.forward, []

    def seen(network, views, numbers, **options):
        calls.append((len(views), options, torch.is_autocast_enabled("cpu"), network))
        return real(network, views, numbers, **options)

    monkeypatch.setattr(Fast3R, "forward", seen)
    images, found = torch.rand(1, 3, 3, 32, 48), {}
    for name in ("fast3r", "fast3r-reference"):
        torch.manual_seed(0)  # the same weights
        forward = _model(name, "paper", precision).build_forward()
        with torch.inference_mode():
            found[name] = forward(images)
    options = [{"head_chunk": 1, "reference": reference} for reference in (False, True)]
    assert [call[:3] for call in calls] == [(3, each, precision == "bfloat16") for each in options]
    networks = [call[3] for call in calls]
    assert networks[0].fusion.kernels is not networks[1].fusion.kernels
    shapes = [(1, 32, 48, 3), (1, 32, 48)] * 2 * 3
    for ours, published, shape in zip(*found.values(), shapes, strict=True):
        assert tuple(ours.shape) == tuple(published.shape) == shape
        if precision == "float32":
            torch.testing.assert_close(ours, published, rtol=1e-4, atol=1e-4)


def test_forwards_are_measured_for_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = _run(views="2", preset="tiny", size="28x42", compare="student-reference")
    for row in report.result["rows"]:
        assert row["status"] == "measured"
        assert 0 < row["seconds_min"] <= row["seconds"] <= row["seconds_max"]
        assert row["peak_bytes"] > 1e8
        assert 0 < row["floor_share"] < 2  # the student leaves some arithmetic out
        assert math.isfinite(row["estimated_seconds"])


@pytest.mark.parametrize("preset", ["tiny", "paper"])
@pytest.mark.parametrize("name", ["student", "student-reference"])
def test_students_run_in_bfloat16_and_give_float32(preset, name):
    forward = _model(name, preset, "bfloat16").build_forward()
    with torch.inference_mode():
        maps = forward(torch.rand(1, 2, 3, 28, 42))
    assert [tuple(m.shape[:4]) for m in maps] == [(1, 2, 28, 42)] * 4
    assert all(m.dtype == torch.float32 for m in maps)
    assert all(bool(m.isfinite().all()) for m in maps)


@pytest.mark.parametrize("head", ["global", "local"])
@pytest.mark.parametrize("name", ["student", "student-reference"])
def test_one_head_alone_is_measured(name, head):
    torch.manual_seed(0)
    both = _model(name).build_forward()
    torch.manual_seed(0)
    alone = _model(name, head=head).build_forward()
    images = torch.rand(1, 2, 3, 28, 42)
    with torch.inference_mode():
        place = ("global", "local").index(head)
        wanted, found = both(images)[2 * place : 2 * place + 2], alone(images)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_memory_that_is_said_to_be_little_runs_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutOfMemoryError, match="every row"):
        _run(views="64", preset="tiny", size="280x420", memory_gb=0.4, budget=60.0)


def test_the_worker_is_a_module_that_can_be_run():
    assert bench_process.WORKER == "distill3r_core.stages.benchmark.forward_worker"


def test_any_teacher_is_timed_through_its_predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = _run(views="2", preset="tiny", size="28x42", compare="synthetic")
    student, teacher = report.result["rows"]
    assert (teacher["model"], teacher["preset"], teacher["size"]) == ("synthetic",) * 2 + ("28x42",)
    assert teacher["status"] == "measured" and teacher["seconds"] > 0
    assert teacher["tflop"] is teacher["floor_share"] is None  # its arithmetic is unknown
    (entry,) = report.result["ratios"]
    assert entry["ratio"] == pytest.approx(teacher["cpu_seconds"] / student["cpu_seconds"])
    assert entry["flop_ratio"] is None


def test_a_view_that_lacks_what_a_teacher_needs_is_an_error_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputMissingError, match="depth"):
        _run(views="2", preset="tiny", size="28x42", compare="depth")
