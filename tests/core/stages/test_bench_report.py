"""What a benchmark tells: its chart, its header, the paper's figures and the ratios beside them."""

import math
import sys
from contextlib import nullcontext

import psutil
import pytest
import torch

from distill3r_core.errors import RequestError
from distill3r_core.nn.attention import HOPPER, preferred_kernels
from distill3r_core.nn.counts import floor_seconds
from distill3r_core.stages.benchmark import BenchSettings
from distill3r_core.stages.benchmark import forward_report as bench_report
from distill3r_core.stages.benchmark import forward_worker as bench_worker
from distill3r_core.stages.benchmark import run_benchmark as benchmark
from distill3r_core.stages.benchmark.forward_worker import Server
from distill3r_core.stages.benchmark.models import BenchModel, bench_models
from distill3r_core.stages.benchmark.result_folder import claim_folder
from distill3r_core.stages.benchmark.rows import BenchRow, ratios, row_of
from distill3r_core.stages.benchmark.timing import MEASURED, BenchEntry, SpeedCalibration
from distill3r_core.stages.benchmark.worker_process import WorkerProcess

VIEWS = (12, 32, 64, 96, 128)
# Seconds and GB of arXiv:2602.00865, Table I, read off the paper once more.
PUBLISHED = {
    "fast3r": ("0.32 6.86", "1.14 12.11", "3.26 21.11", "6.35 32.36", "10.11 44.36"),
    "student": ("0.13 4.05", "0.41 9.97", "1.02 21.80", "1.78 28.69", "2.69 31.90"),
}
DEVICE = SpeedCalibration(start=1.0, forward=1.0, flop_rate=1e13, byte_rate=1e12)
HEADER = {"device": "cpu", "name": "a machine", "precision": "float32", "attention": "SDPA"}


def _models(compare: str = "fast3r", size: tuple[int, int] = (378, 518)):
    student = BenchModel("student", "paper", None, torch.device("cpu"), "float32", size)
    return bench_models(student, compare)


def _row(model: BenchModel, views: int, seconds: float = 1.0, cpu_seconds: float = 1.0) -> BenchRow:
    run = {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "end_to_end_seconds": seconds,
        "peak_bytes": 10**9, "peak_reserved_bytes": None,
    }  # fmt: skip
    entry = BenchEntry(model, views, status=MEASURED, estimate=1.0, warmups=1, runs=[run] * 3)
    return row_of(entry, DEVICE, label="paper")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Write a result of some rows; gives its report and what the chart was drawn of."""

    def write(rows):
        drawn = []
        real = bench_report.save_line_chart

        def seen(path, lines, **options):
            drawn.append((lines, options))
            return real(path, lines, **options)

        monkeypatch.setattr(bench_report, "save_line_chart", seen)
        folder = claim_folder("x", {}, chosen=tmp_path / "out")
        report = bench_report.publish(folder, header=HEADER, rows=rows)
        return report, *drawn

    return write


def test_the_chart_is_logarithmic_both_ways_and_shows_the_floor(published):
    student, _ = _models()
    rows = [_row(student, views, seconds=views / 4) for views in (12, 128)]
    _, (lines, options) = published(rows)
    assert (options["x_scale"], options["y_scale"]) == ("log", "log")
    assert options["x_ticks"] == [12, 128]
    by_label = {line.label: line for line in lines}
    assert list(by_label["student"].y) == [3.0, 32.0]
    assert not by_label["student"].dashed
    floor = by_label["student, floor of this device"]
    assert floor.dashed
    assert list(floor.y) == [
        floor_seconds(student.parts(views), flop_rate=1e13, byte_rate=1e12, item_bytes=4)
        for views in (12, 128)
    ]


def test_the_papers_table_stands_beside_the_rows(published):
    rows = [_row(one, views) for one in reversed(_models()) for views in VIEWS]
    report, (lines, _) = published(rows)
    table = report.tables[0]
    columns = [table.columns.index(name) for name in ("Table I s", "Table I GB")]
    found = {"fast3r": [], "student": []}
    for row, cells in zip(rows, table.rows, strict=True):
        found[row.model].append([float(cells[column]) for column in columns])
    for model, texts in PUBLISHED.items():
        wanted = [[float(text) for text in pair.split()] for pair in texts]
        # The table shows three digits.
        assert found[model] == [[float(f"{value:.3g}") for value in pair] for pair in wanted]
        mine = [[row.table1_seconds, row.table1_gb] for row in rows if row.model == model]
        assert mine == wanted
    assert {line.label for line in lines} >= {
        "student, Table I (RTX 6000 Ada)",
        "fast3r, Table I (RTX 6000 Ada)",
    }


def test_the_papers_table_is_not_put_beside_other_sizes_or_numbers_of_views():
    for one in _models(size=(224, 518)):
        assert _row(one, 12).table1_seconds is None
    for one in _models():
        assert _row(one, 13).table1_seconds is None


@pytest.mark.parametrize(
    ("on_cpu", "unit", "wanted"), [(True, "cpu_seconds", 3.0), (False, "seconds", 2.5)]
)
def test_a_ratio_is_the_teachers_time_over_the_students(on_cpu, unit, wanted):
    student, teacher = _models()
    rows = [
        _row(student, 12, seconds=4.0, cpu_seconds=2.0),
        _row(teacher, 12, seconds=10.0, cpu_seconds=6.0),
    ]
    (found,) = ratios(rows, on_cpu=on_cpu)
    assert (found["model"], found["unit"], found["ratio"]) == ("fast3r", unit, wanted)
    assert found["flop_ratio"] == pytest.approx(teacher.flop(12) / student.flop(12))


def test_the_ratio_is_shown_under_its_name(published):
    student, teacher = _models()
    rows = [_row(student, 12, cpu_seconds=2.0), _row(teacher, 12, cpu_seconds=6.0)]
    table = published(rows)[0].tables[1]
    assert table.columns == ("views", "fast3r / student (CPU-seconds)", "in FLOP")
    assert table.rows[0][:2] == ("12", "3")


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_the_header_names_precision_and_kernel_as_they_are(tmp_path, monkeypatch, precision):
    monkeypatch.chdir(tmp_path)
    settings = BenchSettings(
        device="cpu", preset="tiny", size="28x42", views="1", runs=1, precision=precision
    )
    report = benchmark.benchmark(settings)
    header = report.result["header"]
    really = "float32" if precision == "auto" else precision
    assert header["precision"] == really
    assert header["attention"] == "SDPA, kernel chosen by torch"
    assert header["heads"] is None
    assert f" · {really} · SDPA, kernel chosen by torch" in report.tables[0].title


@pytest.mark.parametrize(
    ("major", "fused", "attention", "heads"),
    [
        (HOPPER, True, "SDPA, cuDNN first", "fused kernels"),
        (HOPPER - 1, False, "SDPA, kernel chosen by torch", None),
    ],
)
def test_the_kernels_of_a_gpu_are_told_by_what_it_is(monkeypatch, major, fused, attention, heads):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    monkeypatch.setattr(bench_worker.fused, "kernels_work", lambda: fused)
    server = Server.__new__(Server)  # nothing is built: no GPU is needed
    server.device = torch.device("cuda")
    facts = server.facts()
    assert (facts["attention"], facts["heads"]) == (attention, heads)
    left_to_torch = isinstance(preferred_kernels(server.device), nullcontext)
    assert left_to_torch == (attention == "SDPA, kernel chosen by torch")


@pytest.mark.skipif(sys.platform != "linux", reason="no limit is kept there")
def test_memory_gb_limits_the_process_that_measures(tmp_path, monkeypatch):
    asked, limits, real = [], [], WorkerProcess.ask

    def ask(process, request, **options):
        answer = real(process, request, **options)
        asked.append(request.get("memory_bytes", asked[-1] if asked else None))
        limits.append(psutil.Process(process._process.pid).rlimit(psutil.RLIMIT_DATA))
        return answer

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WorkerProcess, "ask", ask)
    benchmark.benchmark(
        BenchSettings(
            device="cpu", preset="tiny", size="28x42", views="1", runs=1, memory_gb=1.5
        )
    )  # fmt: skip
    assert set(asked) == {1_500_000_000}
    assert set(limits) == {(1_500_000_000, 1_500_000_000)}


def test_memory_gb_is_refused_where_nothing_would_hold_it(monkeypatch):
    monkeypatch.setattr(bench_worker.sys, "platform", "darwin")
    with pytest.raises(RequestError, match="memory_gb"):
        benchmark.benchmark(BenchSettings(device="cpu", preset="tiny", views="1", memory_gb=1.0))


@pytest.mark.skipif(sys.platform != "linux", reason="no limit is kept there")
def test_without_memory_gb_a_process_may_take_what_is_free():
    model = BenchModel("student", "tiny", None, torch.device("cpu"), "float32", (28, 42))
    request = {"model": model.as_plain(), "views": 1, "seed": 0}
    with WorkerProcess() as process:
        process.ask({**request, "memory_bytes": None})
        soft, hard = psutil.Process(process._process.pid).rlimit(psutil.RLIMIT_DATA)
    assert soft == hard
    assert 0 < soft < psutil.virtual_memory().total
    assert math.isfinite(soft)
