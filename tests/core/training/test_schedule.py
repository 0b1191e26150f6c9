"""The learning rate by true optimizer steps, the length of a run, and what decays."""

import pytest

from distill3r_core.models import build_student
from distill3r_core.training.schedule import Extension, learning_rate, run_length, warmup_length
from distill3r_core.training.settings import OptimSettings, ScheduleSettings, TrainSettings
from distill3r_core.training.step import build_optimizer

PAPER = {"steps": 20000, "optim": OptimSettings(), "schedule": ScheduleSettings()}


def test_the_papers_schedule_at_its_landmarks() -> None:
    rates = [learning_rate(step, **PAPER) for step in (0, 1750, 3500, 11750, 20000)]
    assert rates == pytest.approx([0.0, 0.5e-4, 1e-4, 0.75e-4, 0.5e-4])


def test_it_rises_to_the_peak_and_then_only_falls() -> None:
    rates = [learning_rate(step, **PAPER) for step in range(0, 20001, 50)]
    peak = 3500 // 50
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_an_extension_leaves_the_first_steps_as_they_were() -> None:
    for rate in ("constant", "cosine"):
        extended = [Extension(20000, 30000, rate)]
        for step in (0, 1750, 11750, 19999):
            assert learning_rate(step, **PAPER, extensions=extended) == learning_rate(step, **PAPER)


def test_an_extension_goes_on_at_the_final_rate_or_by_a_new_cosine() -> None:
    constant, cosine = Extension(20000, 30000, "constant"), Extension(30000, 40000, "cosine")

    def rates(*steps: int, extensions: list[Extension]) -> list[float]:
        return [learning_rate(step, **PAPER, extensions=extensions) for step in steps]

    assert rates(20000, 29999, extensions=[constant]) == pytest.approx([5e-5, 5e-5])
    both = rates(25000, 30000, 35000, 39999, extensions=[constant, cosine])
    assert both == pytest.approx([5e-5, 1e-4, 7.5e-5, 5e-5])
    again = [constant, cosine, Extension(40000, 41000, "constant")]
    assert rates(40500, extensions=again) == pytest.approx([5e-5])


def test_a_run_that_never_left_its_warm_up_is_extended_at_the_rate_it_reached() -> None:
    short = {**PAPER, "steps": 350}  # a tenth of the warm-up
    rate = learning_rate(400, **short, extensions=[Extension(350, 1000, "constant")])
    assert rate == pytest.approx(1e-5)


def test_a_share_of_the_run_warms_up_where_no_steps_are_named() -> None:
    assert warmup_length(ScheduleSettings(warmup_steps=None), 800) == 40


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_steps": 7, "epochs": 3}, 7),
        ({"epochs": 3}, 30),
        ({"schedule": ScheduleSettings(steps=800)}, 800),
        ({}, 600),
    ],
)
def test_steps_go_before_epochs_and_both_before_the_preset(given: dict, expected: int) -> None:
    assert run_length(TrainSettings(**given), samples=160, effective_batch=16) == expected


def test_an_epoch_smaller_than_a_batch_is_a_step() -> None:
    assert run_length(TrainSettings(epochs=5), samples=2, effective_batch=16) == 5


def test_decay_spares_what_is_no_matrix_unless_told_otherwise() -> None:
    student = build_student("tiny")
    decayed, spared = build_optimizer(student, OptimSettings()).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    assert all(parameter.ndim < 2 for parameter in spared["params"])
    (every,) = build_optimizer(student, OptimSettings(decay="all")).param_groups
    assert len(every["params"]) == len(list(student.parameters()))
