"""The learning rate by true optimizer steps, the length of a run, and what decays."""

import pytest

from distill3r_core.models import build_student
from distill3r_core.training.schedule import learning_rate, run_length, warmup_length
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
