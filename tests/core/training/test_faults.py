"""What goes wrong in a run is named, survived where it can be, and can be looked into."""

import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fault_material import MakeCache, patched_forward, settings_for, weights_of

from distill3r_core.errors import DamageError, DiskFullError, DivergedError, OutOfMemoryError
from distill3r_core.losses import DistillationLoss
from distill3r_core.models import load_student
from distill3r_core.profiling import AllocationError, memory_limits
from distill3r_core.report import Silent
from distill3r_core.stages.train import train
from distill3r_core.training import checkpoints, faults
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import predict


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
        MemoryError(),  # as Python itself raises it: without a word
    ],
    ids=["gpu", "cpu", "python"],
)
def test_every_way_of_running_out_of_memory_is_known(error: Exception) -> None:
    with pytest.raises(AllocationError, match="memory"), memory_limits():
        raise error


@pytest.mark.parametrize("text", ["shapes do not fit", "not enough memory of earlier frames"])
def test_another_fault_is_not_taken_for_a_lack_of_memory(text: str) -> None:
    with pytest.raises(RuntimeError, match=text), memory_limits():
        raise RuntimeError(text)


def test_torchs_own_word_for_a_full_machine_is_known() -> None:
    with pytest.raises(AllocationError, match="allocate"), memory_limits():
        torch.empty(2**60, dtype=torch.uint8)


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_step(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache")
    exact = ("data.batch=4", "compute.precision=float64")
    train(settings_for(cache, tmp_path / "roomy", *exact, max_steps=2))

    def full(maps: Any, images: torch.Tensor) -> Any:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return maps

    with monkeypatch.context() as patch:
        patched_forward(patch, full)
        silent = Silent()
        train(settings_for(cache, tmp_path / "narrow", *exact, max_steps=2), progress=silent)
    assert [note for note in silent.notes if note.startswith("out of memory: now 1 samples")]
    expected = weights_of(tmp_path / "roomy")
    for name, tensor in weights_of(tmp_path / "narrow").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9)
    state = checkpoints.read(tmp_path / "narrow" / "checkpoints" / "last").state
    assert state["micro_batch"] == 1  # --resume does not run into it again


def test_one_sample_that_does_not_fit_is_an_error_with_a_way_out(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(maps: Any, images: torch.Tensor) -> Any:
        if images.shape[-1] == 42:  # not the first look at the student, which is smaller
            raise torch.OutOfMemoryError("CUDA out of memory")
        return maps

    cache = make_cache(tmp_path / "cache")
    patched_forward(monkeypatch, full)
    with pytest.raises(OutOfMemoryError) as caught:
        train(settings_for(cache, tmp_path / "run"))
    assert "--recompute all" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()  # it holds nothing that was worth the time


def test_a_run_that_fails_after_a_checkpoint_stays(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, steps = make_cache(tmp_path / "cache"), []

    def full(maps: Any, images: torch.Tensor) -> Any:
        steps.append(images.shape)
        if images.shape[-1] == 42 and len(steps) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return maps

    patched_forward(monkeypatch, full)
    with pytest.raises(OutOfMemoryError):
        train(settings_for(cache, tmp_path / "run", "checkpoint.every_steps=1"))
    assert (tmp_path / "run" / "checkpoints").is_dir()
    assert (tmp_path / "run" / "log.txt").is_file()


def test_a_failed_start_leaves_what_others_have_put_into_the_folder(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(maps: Any, images: torch.Tensor) -> Any:
        if images.shape[-1] == 42:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return maps

    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    run.mkdir()
    for name in ("notes.md", "config.yaml", "log.txt"):
        (run / name).write_text("mine")
    patched_forward(monkeypatch, full)
    with pytest.raises(OutOfMemoryError):
        train(settings_for(cache, run), overwrite=True)
    assert {"notes.md", "config.yaml", "log.txt"} <= {path.name for path in run.iterdir()}
    with pytest.raises(OutOfMemoryError):
        train(settings_for(cache, run), resume=True)  # with the config that a resumption is told of
    assert (run / "config.yaml").is_file() and (run / "notes.md").read_text() == "mine"


def test_a_failed_start_tells_its_own_error_whatever_has_come_into_its_folder(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"

    def full(maps: Any, images: torch.Tensor) -> Any:
        if images.shape[-1] == 42:
            (run / "editor.swp").touch()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return maps

    patched_forward(monkeypatch, full)
    with pytest.raises(OutOfMemoryError):
        train(settings_for(cache, run))
    assert [path.name for path in run.iterdir()] == ["editor.swp"]


def test_a_step_that_is_not_finite_is_named_skipped_and_can_be_replayed(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    seen = []

    def burst(maps: Any, images: torch.Tensor) -> Any:
        seen.append(1)
        if len(seen) != 2:
            return maps
        return replace(maps, points_local=maps.points_local * math.inf)

    with monkeypatch.context() as patch:
        patched_forward(patch, burst)
        silent = Silent()
        report = train(settings_for(cache, run), progress=silent)
    assert report.result["ending"] == "complete"
    folder = run / "nan" / "step-000001"
    facts = json.loads((folder / "facts.json").read_text())
    (warning,) = [note for note in silent.notes if "is not finite" in note]
    assert all(name in warning for name in facts["samples"])
    assert str(folder) in warning
    student = load_student(run)
    batch, weights = faults.load_step(folder)
    assert [draw.name for draw in batch.draws] == facts["samples"]
    student.load_state_dict(weights)
    maps = predict(student.train(), batch, compute=ComputeSettings(), bfloat16=False)
    bad = replace(maps, points_local=maps.points_local * math.inf)
    assert not DistillationLoss()(bad, batch.targets).total.isfinite()
    assert DistillationLoss()(maps, batch.targets).total.isfinite()
    # The weights after the skipped step are those before it.
    assert all(tensor.isfinite().all() for tensor in weights_of(run).values())


def test_too_many_such_steps_in_a_row_stop_the_run(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache")
    patched_forward(
        monkeypatch, lambda maps, _: replace(maps, points_local=maps.points_local * math.nan)
    )
    with pytest.raises(DivergedError, match="2 steps in a row"):
        train(settings_for(cache, tmp_path / "run", "faults.nonfinite_in_a_row=2"))
    assert len(list((tmp_path / "run" / "nan").iterdir())) == 2


def test_a_run_whose_last_steps_ruin_the_weights_is_no_success(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache")
    with pytest.raises(DivergedError, match="not finite"):
        train(settings_for(cache, tmp_path / "run", "optim.lr=1e38", max_steps=3))


def test_norms_that_run_away_are_warned_of_once() -> None:
    watch = faults.NormWatch(growth=10.0)
    said = [
        watch.update(student=0.5 * 1.2**step, teacher=2.0, what="norm of raw points")
        for step in range(60)
    ]
    warnings = [text for text in said if text is not None]
    assert len(warnings) == 1
    assert "diverges" in warnings[0]
    steady = faults.NormWatch(growth=10.0)
    assert not any(
        steady.update(student=3.0 * unit, teacher=unit, what="norm")
        for unit in (1.0, 1000.0, 0.001) * 20
    )


@pytest.mark.parametrize("start", [0.6, 600.0])
def test_norms_that_come_to_those_of_the_teacher_have_not_run_away(start: float) -> None:
    # Scenes of 20 m, and a student that starts at 0.6: what it learns is 33 times as large.
    steps = [start] * 10 + [20.0, 22.5, 19.0]

    def said(watch: faults.NormWatch, norms: list[float]) -> list[str]:
        texts = [watch.update(student=it, teacher=20.0, what="norm") for it in norms]
        return [text for text in texts if text is not None]

    watch = faults.NormWatch(growth=10.0, meets=True)
    assert said(watch, steps) == []
    (warning,) = said(watch, [20.0 * 11 if start < 20 else 20.0 / 11])
    assert "diverges" in warning
    # One whose loss leaves the scale free has moved as far as any that runs away.
    assert len(said(faults.NormWatch(growth=10.0), steps)) == 1


def test_the_norms_of_both_sides_are_logged(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache")
    train(settings_for(cache, tmp_path / "run", max_steps=1))
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["norm_teacher"] == pytest.approx(2.0, abs=0.5)  # depths from 1 to 3
    assert row["norm_student"] == pytest.approx(0.7, abs=0.2)  # where the heads start
    assert row["confidence_teacher"] > 1
    assert row["confidence_student"] > 1


@pytest.mark.parametrize("hold", ["true", "false"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_corrupt_entry_stops_the_run_and_names_the_repair(
    hold: str, workers: int, make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=[(28, 42)], held_out=0)
    (data,) = cache.glob("*/data.mdb")
    content = bytearray(data.read_bytes())
    for start in range(0, len(content), 4096):  # zstd frames all over the file
        at = content.find(b"\x28\xb5\x2f\xfd", start, start + 4096)
        if at >= 0 and len(content) > at + 64:
            content[at + 40] ^= 0xFF
    data.write_bytes(content)
    sets = (f"data.hold={hold}", f"data.workers={workers}")
    with pytest.raises(DamageError, match="made/00/000") as caught:
        train(settings_for(cache, tmp_path / "run", *sets))
    assert f"cache verify --repair {cache}" in str(caught.value.hint)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """What a full disk does to whoever writes: the system refuses more bytes."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [1 << 20, 9 << 20], ids=["no model", "no optimizer"])
def test_a_full_disk_keeps_the_last_good_checkpoint(
    room: int, make_cache: MakeCache, tmp_path: Path
) -> None:
    cache, run = make_cache(tmp_path / "cache", held_out=0), tmp_path / "run"
    settings = settings_for(cache, run, "checkpoint.every_steps=1")
    train(replace(settings, max_hours=1e-9))
    good = (run / "checkpoints" / "last").resolve()
    with files_no_larger_than(room), pytest.raises(DiskFullError, match="step-000002"):
        train(settings, resume=True)
    assert (run / "checkpoints" / "last").resolve() == good
    assert checkpoints.read(good).step == 1
    assert not list((run / "checkpoints").glob(".*"))
    assert train(settings, resume=True).result["step"] == 4


def test_early_stopping_waits_for_its_patience(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache")
    report = train(
        settings_for(
            cache,
            tmp_path / "run",
            "validation.every_steps=1",
            "validation.patience=2",
            "optim.lr=0",
            "schedule.final_lr=0",
            "optim.weight_decay=0",
            max_steps=20,
        )
    )
    # Nothing is learned: the first look is the best one, and two more end the run.
    assert report.result["ending"] == "patience"
    assert report.result["step"] == 3
