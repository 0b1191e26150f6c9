"""What a prediction takes is estimated, and what would not fit is refused before it starts."""

import re

import fast3r_folders
import pytest
from official_folders import write_folder
from test_network_teachers import small, views

from distill3r_core.errors import OutOfMemoryError
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
    assert "not one view fits" in error.hint
    # Somewhere between nothing and much two of the three views fit: those are offered, and run.
    for exponent in range(1000, 3000):
        free = int(2 ** (exponent / 100))
        error = refusal(3, free)
        if error is None or "2 views would fit" in error.hint:
            break
    assert error is not None
    assert re.search(r"--max-views 2\b", error.hint) and "--views 2`" in error.hint
    assert refusal(2, free) is None
    assert refusal(3, 10**12) is None
