"""What a prediction takes is estimated, and what would not fit is refused before it starts."""

import re

import fast3r_folders
import psutil
import pytest
import torch
from official_folders import write_folder
from test_network_teachers import small, views

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.system.allocator import freed_memory, keep_freed_memory
from distill3r_core.teachers import TEACHERS, build_teacher
from distill3r_core.teachers import cost as teacher_cost

NETWORKS = [name for name in TEACHERS if TEACHERS[name].cost is not None]
ONE_PASS = ("da3-small", "vggt", "pi3", "fast3r")
SIZE = (224, 336)


@pytest.mark.parametrize("name", NETWORKS)
def test_more_views_and_more_pixels_take_more(name):
    record = TEACHERS[name]

    def estimate(count, size=SIZE):
        settings = record.read_settings({})
        return record.cost.memory(record.cost.published, count, size, settings=settings)

    assert 0 < estimate(2).total < estimate(20).total
    assert estimate(2).total < estimate(2, (2 * SIZE[0], 2 * SIZE[1])).total
    assert estimate(4).outputs >= 2 * estimate(2).outputs > 0


@pytest.mark.parametrize("name", ONE_PASS)
def test_a_pass_that_would_not_fit_is_refused_and_what_fits_is_said(
    golden_dir, tmp_path, monkeypatch, name
):
    if name == "fast3r":
        folder = fast3r_folders.write_folder(tmp_path / name, fast3r_folders.hub_tensors())
    else:
        folder = write_folder(tmp_path / name, golden_dir, name)
    teacher = small(build_teacher(name, folder))
    prepared = [teacher.prepare(view) for view in views(3)]

    def refusal(count: int, free: int) -> OutOfMemoryError | None:
        monkeypatch.setattr(teacher_cost, "available_memory", lambda: free)
        monkeypatch.setattr(teacher_cost, "freed_memory", lambda: 0)
        try:
            teacher.predict(prepared[:count])
        except OutOfMemoryError as error:
            return error
        return None

    error = refusal(3, 1000)
    assert error is not None
    rows, columns = prepared[0].image.shape[1:]
    assert f"{name} would take about" in error.message
    assert f"3 views of {rows}x{columns}" in error.message
    assert "not one view fits" in error.message
    # Somewhere between nothing and much two of the three views fit: those are offered, and run.
    for exponent in range(1000, 3000):
        free = int(2 ** (exponent / 100))
        error = refusal(3, free)
        if error is None or "at most 2 would fit" in error.message:
            break
    assert error is not None
    assert re.search(r"--max-views 2\b", error.hint) and "--views 2`" in error.hint
    assert refusal(2, free) is None
    assert refusal(3, 10**12) is None


@pytest.mark.parametrize("name", ONE_PASS)
def test_a_lower_precision_may_fit_where_float32_does_not(monkeypatch, name):
    record = TEACHERS[name]
    cost, size = record.cost, (224, 336)
    plain, lower = (record.read_settings({"precision": p}) for p in ("float32", "bfloat16"))
    needed = [
        cost.memory(cost.published, 20, size, settings=plain, dtype=dtype).total
        for dtype in (torch.bfloat16, torch.float32)
    ]
    assert needed[0] < needed[1]
    monkeypatch.setattr(teacher_cost, "available_memory", lambda: sum(needed) // 2)
    monkeypatch.setattr(teacher_cost, "freed_memory", lambda: 0)
    cpu = {"device": torch.device("cpu"), "name": name}
    cost.require_memory(cost.published, 20, size, settings=lower, **cpu)
    with pytest.raises(OutOfMemoryError, match="would take"):
        cost.require_memory(cost.published, 20, size, settings=plain, **cpu)


def test_what_a_pass_has_freed_counts_as_free_for_the_next(golden_dir, tmp_path, monkeypatch):
    """The process stays at its peak size, which the system takes for used."""
    folder = write_folder(tmp_path / "vggt", golden_dir, "vggt")
    teacher = build_teacher("vggt", folder)
    prepared = [teacher.prepare(view) for view in views(8)]
    size = prepared[0].image.shape[1:]
    needed = (
        TEACHERS["vggt"]
        .cost.memory(teacher.network.size, len(prepared), size, settings=teacher._settings)
        .total
    )
    process = psutil.Process()
    room = process.memory_info().rss + int(1.3 * needed)
    monkeypatch.setattr(
        teacher_cost, "available_memory", lambda: max(0, room - process.memory_info().rss)
    )
    first, second = (teacher.predict(prepared) for _ in range(2))
    assert torch.equal(first.points_local[0], second.points_local[0])


def test_freed_blocks_are_counted():
    keep_freed_memory(block=1 << 25, kept=1 << 30)
    kept = [torch.ones(1 << 18) for _ in range(64)]  # 1 MB each
    during = freed_memory()
    del kept
    assert freed_memory() > during + (1 << 25)
