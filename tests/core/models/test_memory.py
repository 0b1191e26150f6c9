"""The memory that a pass is expected to take, against what it takes on a CPU."""

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from distill3r_core.models import build_student
from distill3r_core.models.multiview.memory import estimate_bytes
from distill3r_core.models.pairs.cost import estimate_pair_bytes

CPU = torch.device("cpu")


def _peak_bytes(work: Callable[[], object]) -> int:
    """The highest sum of what torch's allocator gave out and did not get back."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as done:
        work()
    assert done.profiler is not None
    events = [e for e in done.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("head", ["both", "local"])
@pytest.mark.parametrize(
    ("sizes", "chunk"),
    [
        ([(28, 42)] * 4, 4),
        ([(70, 98)] * 4, 4),
        ([(70, 98)] * 8, 2),
        ([(70, 98)] * 30, 1),  # the stem takes most
        ([(112, 154)] * 12, 3),
        ([(112, 154)] * 12, 12),  # a head does
        ([(70, 98)] * 4 + [(98, 70)] * 5, 2),
    ],
)
def test_a_pass_takes_no_more_than_is_expected_and_not_much_less(preset, head, sizes, chunk):
    student = build_student(preset).eval()
    images = [torch.rand(3, *size) for size in sizes]
    given = sum(image.nbytes for image in images)

    def work():
        with torch.inference_mode():
            return student(images, head=head, head_chunk=chunk, host=True)

    expected = estimate_bytes(
        student.spec, sizes, device=CPU, head_chunk=chunk, heads=2 if head == "both" else 1
    ).total
    taken = given + _peak_bytes(work)
    assert taken <= expected < 2.5 * taken


@pytest.mark.parametrize("encoder", [{}, {"kind": "cnn"}])
@pytest.mark.parametrize("head", ["both", "local"])
@pytest.mark.parametrize(
    ("sizes", "chunk"),
    [
        ([(64, 96)] * 2, 1),
        ([(64, 96)] * 9, 8),
        ([(112, 160)] * 6, 2),
        ([(64, 96)] * 4 + [(96, 64)] * 5, 2),
    ],
)
def test_a_pass_over_pairs_takes_no_more_than_is_expected(encoder, head, sizes, chunk):
    student = build_student("pair-tiny", encoder=encoder).eval()
    images = [torch.rand(3, *size) for size in sizes]

    def work():
        with torch.inference_mode():
            return student(images, head=head, head_chunk=chunk, host=True)

    heads = 2 if head == "both" else 1
    expected = estimate_pair_bytes(
        student.spec, sizes, device=CPU, head_chunk=chunk, heads=heads
    ).total
    taken = sum(image.nbytes for image in images) + _peak_bytes(work)
    assert taken <= expected < 3 * taken
