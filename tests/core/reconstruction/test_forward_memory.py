"""A pass within the memory there is."""

from dataclasses import dataclass, field

import pytest
import torch
from exact_scene import exact_views

from distill3r_core.errors import OutOfMemoryError, RequestError
from distill3r_core.models import Student, build_student
from distill3r_core.models.precision import lower_precision
from distill3r_core.reconstruction.prediction import memory_plan
from distill3r_core.reconstruction.prediction.forward_pass import run_student
from distill3r_core.reconstruction.prediction.memory_plan import plan_pass
from distill3r_core.report import Silent


@pytest.fixture(scope="module")
def student() -> Student:
    torch.manual_seed(0)
    return build_student("tiny").eval()


@pytest.fixture(scope="module")
def views():
    return exact_views()[0]


def _with_free(monkeypatch, amount: int) -> None:
    monkeypatch.setattr(memory_plan, "free_memory", lambda device: amount)


def test_the_plan_is_said_before_the_pass(student, views):
    told = Silent()
    found = run_student(student, views, progress=told)
    assert told.notes[0].startswith("plan: 3 views") and "GiB" in told.notes[0]
    assert found.head_chunk == 3 and found.estimate_bytes > 0


@dataclass
class _Phases(Silent):
    """Every phase as it stood at its end."""

    seen: list[list[object]] = field(default_factory=list)

    def begin(self, label, *, total, unit, done=0):
        self.seen.append([label, unit, total, done])

    def advance(self, steps=1, **figures):
        self.seen[-1][-1] += steps


@pytest.mark.parametrize(("head", "maps"), [("both", 6), ("global", 3), ("local", 3)])
def test_every_stretch_of_the_pass_is_a_phase_that_ends_full(student, views, head, maps):
    told = _Phases()
    run_student(student, views, head=head, progress=told)
    blocks = student.spec.fusion.depth
    assert told.seen == [
        ["encoder", "views", 3, 3],
        ["fusion", "blocks", blocks, blocks],
        ["heads", "maps", maps, maps],
    ]


def test_a_smaller_chunk_is_planned_where_the_usual_one_does_not_fit(student, views, monkeypatch):
    whole = run_student(student, views)
    _with_free(monkeypatch, whole.estimate_bytes - 1)
    told = Silent()
    small = run_student(student, views, progress=told)
    assert small.head_chunk == 1 and "1 at once" in told.notes[0]
    assert small.estimate_bytes < whole.estimate_bytes
    for a, b in zip(whole.maps, small.maps, strict=True):
        torch.testing.assert_close(a.global_map.points, b.global_map.points, rtol=1e-4, atol=1e-5)


def test_what_is_free_is_not_counted_on_to_the_last_byte_unless_it_must_be(
    student, views, monkeypatch
):
    usual = plan_pass(student, views)
    _with_free(monkeypatch, int(usual.bytes / 0.9) + 1)
    assert plan_pass(student, views).head_chunk == usual.head_chunk > 1
    _with_free(monkeypatch, int(usual.bytes / 0.9) - 1)
    small = plan_pass(student, views)
    assert small.head_chunk < usual.head_chunk
    _with_free(monkeypatch, plan_pass(student, views[:1]).bytes)
    assert plan_pass(student, views[:1]).head_chunk == 1


def test_views_that_cannot_fit_are_refused_before_they_run_with_what_would(
    student, views, monkeypatch
):
    _with_free(monkeypatch, 10**12)
    one, three = run_student(student, views[:1]), run_student(student, views)
    assert one.estimate_bytes < three.estimate_bytes
    _with_free(monkeypatch, one.estimate_bytes + 1)
    with pytest.raises(OutOfMemoryError, match="3 views would take") as raised:
        run_student(student, views)
    assert "--max-views 1 would fit" in str(raised.value.hint)


def test_a_lower_precision_is_planned_with_less(views):
    student = build_student("tiny").eval()
    views = views * 40
    exact = plan_pass(student, views)
    lowered = plan_pass(lower_precision(student), views)
    assert lowered.bytes < 0.75 * exact.bytes


def test_views_whose_maps_cannot_be_held_are_refused_before_they_run(student, views, monkeypatch):
    pixels = views[0].fitted.image.shape[0] * views[0].fitted.image.shape[1]
    _with_free(monkeypatch, 10**12)
    monkeypatch.setattr(memory_plan, "available_memory", lambda: 2 * 115 * pixels)
    plan_pass(student, views[:2])
    with pytest.raises(OutOfMemoryError, match="the maps of 3 views") as raised:
        plan_pass(student, views)
    assert "--max-views 2 would fit" in str(raised.value.hint)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no room"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
    ],
    ids=["gpu", "cpu"],
)
def test_a_pass_that_runs_out_of_memory_is_tried_in_smaller_chunks(
    student, views, monkeypatch, error
):
    real, asked = student.forward, []

    def limited(images, *, head_chunk, **others):
        asked.append(head_chunk)
        if head_chunk > 1:
            raise error
        return real(images, head_chunk=head_chunk, **others)

    monkeypatch.setattr(student, "forward", limited)
    told = Silent()
    assert run_student(student, views, progress=told).head_chunk == 1
    assert asked == [3, 1] and "trying again with 1" in told.notes[-1]


def test_the_smallest_chunk_failing_is_an_error_with_numbers(student, views, monkeypatch):
    def never(images, **options):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(student, "forward", never)
    with pytest.raises(OutOfMemoryError, match="GiB"):
        run_student(student, views)


def test_more_views_than_codes_are_refused_with_what_would_do(student, views):
    with pytest.raises(RequestError, match="1001 views") as raised:
        run_student(student, [views[0]] * 1001)
    assert "--max-views 1000" in str(raised.value.hint)
