"""The benchmark keeps its budget and its word, on a clock that is told what to show."""

import json

import pytest
import torch
from PIL import Image
from saved_runs import write_run

from distill3r_core.config import validate
from distill3r_core.errors import (
    ConfigError,
    ConflictError,
    DeviceError,
    InputMissingError,
    OutOfMemoryError,
    RequestError,
)
from distill3r_core.models import build_student
from distill3r_core.models.checkpoint import save_student
from distill3r_core.models.families import preset_spec
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.multiview.cost import network_of
from distill3r_core.nn.counts import Network, parts, total_flop
from distill3r_core.report import Silent
from distill3r_core.stages.benchmark import BenchSettings
from distill3r_core.stages.benchmark import run_benchmark as benchmark
from distill3r_core.stages.benchmark import timing as bench_measure
from distill3r_core.stages.benchmark.worker_process import TooSlowError, WorkerProcess
from distill3r_core.teachers.fast3r_cost import FAST3R_NETWORK

PAPER = Network(14, 384, 12, 5, 384, 6)
RATE = 1e11  # FLOP/s of the machine that the tests imagine
START = 2.0  # seconds until a process is ready


class Machine:
    """A clock, and processes that only move it.

    Args:
        most_views: More run out of memory.
        shared: Two processes at once have no memory.
        slowdown: Of forwards of more than one view.
    """

    def __init__(self, *, most_views=10_000, shared=True, slowdown=1.0):
        self.now = 0.0
        self.most_views, self.shared, self.slowdown = most_views, shared, slowdown
        self.forwards: list[tuple[str, int]] = []
        self.running = 0

    def monotonic(self) -> float:
        return self.now

    def process(self):
        machine = self

        class Process(WorkerProcess):
            def __init__(self):  # no process
                machine.running += 1
                self.open = True

            def close(self):
                if self.open:
                    machine.running -= 1
                self.open = False

            def ask(self, request, *, seconds=None):
                if "model" in request:
                    self.name, self.views = request["model"]["name"], request["views"]
                    network = FAST3R_NETWORK if self.name.startswith("fast3r") else PAPER
                    flop = total_flop(parts(network, self.views, tuple(request["model"]["size"])))
                    self.takes = flop / RATE * (machine.slowdown if self.views > 1 else 1.0)
                    machine.wait(START, seconds)
                    return {"threads": 1, "attention": "none"}
                if request["do"] == "rates":
                    return {"flop_rate": 2 * RATE, "byte_rate": 1e13}
                crowded = machine.running > 1 and not machine.shared
                if self.views > machine.most_views or crowded:
                    raise OutOfMemoryError("no room")
                machine.wait(self.takes, seconds)
                machine.forwards.append((self.name, self.views))
                return {
                    "seconds": self.takes,
                    "cpu_seconds": 2 * self.takes,
                    "end_to_end_seconds": self.takes,
                    "peak_bytes": 10**9,
                    "peak_reserved_bytes": None,
                }

        return Process()

    def wait(self, takes, seconds):
        if seconds is not None and takes > seconds:
            self.now += seconds
            raise TooSlowError("too slow")
        self.now += takes


@pytest.fixture
def imagine(monkeypatch, tmp_path):
    """Let benchmarks run on an imagined machine."""

    def put(**facts) -> Machine:
        machine = Machine(**facts)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(bench_measure, "WorkerProcess", machine.process)
        monkeypatch.setattr(bench_measure.time, "monotonic", machine.monotonic)
        return machine

    return put


def _run(**values):
    wanted = validate(BenchSettings, {"device": "cpu", **values}, source="settings")
    return benchmark.benchmark(wanted)


def _status(report):
    return {(row["model"], row["views"]): row["status"] for row in report.result["rows"]}


def test_rows_that_do_not_fit_are_estimated_and_the_budget_is_kept(imagine):
    machine = imagine()
    report = _run(views="12..128", budget=400.0)
    assert machine.now <= 400
    assert _status(report) == {
        ("student", 12): "measured",  # 77 s a forward at this machine's rate
        ("student", 32): "skipped, estimated",  # 264 s
        ("student", 64): "skipped, estimated",
        ("student", 96): "skipped, estimated",
        ("student", 128): "skipped, estimated",
    }
    skipped = report.result["rows"][1]
    assert skipped["seconds"] is None
    assert skipped["estimated_seconds"] == pytest.approx(264.3, rel=1e-2)
    assert report.result["rows"][0]["tflop_per_second"] == pytest.approx(RATE / 1e12)
    assert report.result["rows"][0]["floor_share"] == pytest.approx(0.5, rel=1e-6)


def test_a_budget_with_room_gives_all_runs(imagine):
    machine = imagine()
    report = _run(views="2,4", budget=10_000.0)
    assert [row["runs"] for row in report.result["rows"]] == [5, 5]
    assert machine.forwards.count(("student", 4)) == 6  # one of them warmed up


def test_repeats_shrink_to_what_the_budget_allows(imagine):
    # One view takes 5.4 s, four 22.7 s: start and two runs are left of 90 s, and one run more.
    machine = imagine()
    report = _run(views="4", budget=90.0)
    (row,) = report.result["rows"]
    assert (row["warmups"], row["runs"]) == (1, 2)
    assert machine.now <= 90


def test_a_machine_slower_than_judged_stops_in_time(imagine):
    machine = imagine(slowdown=10.0)
    report = _run(views="2,4", budget=100.0)
    assert machine.now <= 100
    assert set(_status(report).values()) == {"skipped, estimated"}


def test_what_one_row_took_corrects_the_next(imagine):
    imagine(slowdown=3.0)
    report = _run(views="2,12", budget=120.0)
    (first, second) = report.result["rows"]
    assert first["status"] == "measured"
    assert second["estimated_seconds"] == pytest.approx(3 * 77, rel=1e-2)


def test_no_time_at_all_estimates_nothing_and_ends_well(imagine):
    imagine()
    report = _run(views="2", budget=1.0)
    (row,) = report.result["rows"]
    assert row["status"] == "skipped, estimated"
    assert row["estimated_seconds"] is None


def test_models_take_turns_and_their_ratio_is_reported(imagine):
    machine = imagine()
    report = _run(views="2", size="224x518", compare="fast3r", budget=10_000.0)
    pair = machine.forwards[-12:]
    assert pair[::2] == [("student", 2)] * 6
    assert pair[1::2] == [("fast3r", 2)] * 6
    (ratio,) = report.result["ratios"]
    assert ratio["views"] == 2
    assert ratio["unit"] == "cpu_seconds"
    assert ratio["ratio"] == pytest.approx(ratio["flop_ratio"])
    assert ratio["flop_ratio"] == pytest.approx(2.59, abs=0.01)
    assert [row["size"] for row in report.result["rows"]] == ["224x518", "224x512"]


def test_a_row_that_ran_out_of_memory_is_a_row(imagine):
    imagine(most_views=4)
    report = _run(views="2,8", budget=10_000.0)
    assert _status(report) == {("student", 2): "measured", ("student", 8): "out of memory"}


def test_models_that_do_not_fit_together_run_alone(imagine):
    imagine(shared=False)
    report = _run(views="2", compare="student-reference", budget=10_000.0)
    assert set(_status(report).values()) == {"measured"}
    assert [row["runs"] for row in report.result["rows"]] == [5, 5]


def test_out_of_memory_everywhere_is_an_error_after_the_result_is_written(imagine, tmp_path):
    imagine(most_views=1)
    with pytest.raises(OutOfMemoryError, match="every row"):
        _run(views="2,4", budget=10_000.0, output=tmp_path / "out")
    rows = json.loads((tmp_path / "out/run.json").read_text())["result"]["rows"]
    assert [row["status"] for row in rows] == ["out of memory"] * 2


def test_the_budget_of_a_cpu_is_five_minutes_and_said(imagine):
    imagine()
    progress = Silent()
    report = benchmark.benchmark(BenchSettings(device="cpu", views="2"), progress=progress)
    assert any("300 s" in note for note in progress.notes)
    assert report.result["header"]["budget"] == 300


def test_results_are_numbered_and_a_chosen_one_is_kept(imagine, tmp_path):
    imagine()
    assert _run(views="2").files[0].parent.name == "paper-001"
    assert _run(views="2").files[0].parent.name == "paper-002"
    chosen = tmp_path / "mine"
    first = _run(views="2", output=chosen)
    again = _run(views="2", output=chosen)
    assert again.finished_before
    assert again.result == json.loads(json.dumps(first.result))
    with pytest.raises(ConflictError, match="views: 2 → 4"):
        _run(views="4", output=chosen)
    with Image.open(chosen / "bench.png") as picture:
        assert picture.width > picture.height


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"preset": "papre"}, ConfigError),
        ({"compare": "fast4r"}, ConfigError),
        ({"compare": "student"}, ConfigError),
        ({"size": "100x100"}, RequestError),
        ({"size": "0x14"}, RequestError),
        ({"views": "x"}, ConfigError),
        ({"model": "nowhere"}, InputMissingError),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(imagine, values, error):
    machine = imagine()
    with pytest.raises(error):
        _run(**values)
    assert machine.now == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(DeviceError):
        benchmark.benchmark(BenchSettings(device="cuda"))


def test_more_views_than_the_student_can_tell_apart_are_refused_at_once():
    with pytest.raises(ConfigError, match="1001 views"):
        _run(views="8,1001")
    with pytest.raises(ConfigError, match="budget"):
        _run(budget=0)


def test_the_paper_preset_has_the_papers_arithmetic():
    assert network_of(preset_spec("paper")) == PAPER


def test_a_run_is_measured_under_its_own_name(imagine, tmp_path):
    imagine()
    student = build_student("tiny")
    metadata = StudentMetadata(preset="tiny", spec=student.spec, size=(28, 42))
    write_run(tmp_path / "mine-001", student, metadata)
    report = _run(views="2", model=tmp_path / "mine-001")
    assert report.files[0].parent.name == "mine-001-001"
    assert report.result["rows"][0]["preset"] == "mine-001"
    best = _run(views="2", model=tmp_path / "mine-001/checkpoints/best")
    assert best.result["rows"][0]["preset"] == "mine-001"


def test_other_weights_under_the_same_name_are_measured_anew(imagine, tmp_path):
    imagine()
    path, values = tmp_path / "mine.safetensors", {"views": "2", "output": tmp_path / "out"}
    for width in (24, 32):
        student = build_student("tiny", heads={"tail": width})
        save_student(
            path, student, StudentMetadata(preset="tiny", spec=student.spec, size=(28, 42))
        )
        if width == 24:
            assert not _run(model=path, **values).finished_before
            assert _run(model=path, **values).finished_before
    with pytest.raises(ConflictError, match="inputs"):
        _run(model=path, **values)


def test_only_the_papers_own_architecture_stands_beside_its_table(imagine, tmp_path):
    imagine()
    student = build_student("tiny")
    path = tmp_path / "paper/model.safetensors"
    save_student(path, student, StudentMetadata(preset="tiny", spec=student.spec, size=(28, 42)))
    for values, beside in (
        ({}, True),
        ({"head": "global"}, False),
        ({"preset": "small"}, False),
        ({"model": path.parent}, False),
    ):
        (row,) = _run(views="12", budget=10_000.0, **values).result["rows"]
        assert (row["table1_seconds"] is not None) == beside


def test_a_teacher_is_not_compared_with_one_head():
    with pytest.raises(RequestError, match="both heads"):
        _run(views="2", head="local", compare="fast3r")
