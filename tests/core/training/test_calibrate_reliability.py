"""Calibration at the end of training."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from distill3r_core import config
from distill3r_core.errors import Distill3rError
from distill3r_core.models import Student, load_student
from distill3r_core.models.families import train_presets
from distill3r_core.reconstruction.reliability.novelty import novelty_of
from distill3r_core.stages.train import TrainSettings, train, train_run
from distill3r_core.training.calibrate_reliability import (
    CalibrationSamples,
    calibrate,
    known_novelty,
    windows_of,
)

MakeCache = Callable[..., Path]


def run(cache: Path, folder: Path) -> TrainSettings:
    options = {"preset": "tiny", "cache": cache, "output": folder, "max_steps": 6}
    sets = ["validation.every_steps=2", "checkpoint.every_steps=2", "checkpoint.keep=9"]
    return config.resolve(
        TrainSettings, section="train", options=options, sets=sets, presets=train_presets()
    )


def test_calibration_is_stored_with_the_weights_and_changes_none(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache")
    train(run(cache, tmp_path / "calibrated"))
    monkeypatch.setattr(train_run, "calibrate", lambda student, samples: None)
    train(run(cache, tmp_path / "plain"))
    calibrated, plain = load_student(tmp_path / "calibrated"), load_student(tmp_path / "plain")
    weights = plain.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in calibrated.state_dict().items())
    assert plain.metadata is not None and plain.metadata.calibration is None
    assert calibrated.metadata is not None
    found = calibrated.metadata.calibration
    assert found is not None and found.windows == 2 * len(windows_of(4))
    # A student of six steps has learned nothing: its camera is not one.
    assert found.misfit is not None and found.misfit > 0.05
    assert found.features is not None and found.novelty is not None
    for folder in sorted((tmp_path / "calibrated/checkpoints").glob("step-*")):
        other = tmp_path / "plain/checkpoints" / folder.name
        mine, theirs = (
            torch.load(place / "optimizer.pt", weights_only=True) for place in (folder, other)
        )
        assert torch.equal(mine["rng"], theirs["rng"])


def test_what_the_student_was_trained_on_is_not_unlike_its_training_images(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the ends of a walk, where neighbors are further from the mean than elsewhere."""
    found: list[tuple[float, float]] = []

    def ends(student: Student, samples: CalibrationSamples) -> object:
        calibration = calibrate(student, samples)
        assert calibration is not None and calibration.features is not None
        assert calibration.novelty is not None
        for name, views in samples.train.items():
            for window in (range(4), range(views - 4, views)):
                images, _ = samples.read(name, window)
                novelty = novelty_of(student, images / 255, calibration.features)
                assert novelty is not None
                found.append((novelty, calibration.novelty))
        return calibration

    monkeypatch.setattr(train_run, "calibrate", ends)
    train(run(make_cache(tmp_path / "cache"), tmp_path / "run"))
    assert found
    # Up to the limit, 1.15 times the known ones, they are like the training images.
    assert all(novelty <= 1.15 * known for novelty, known in found)


@pytest.mark.parametrize(
    ("held_out", "trained", "known"),
    [([1.0, 1.1], [0.9], 1.1), ([1.0], [1.2, 0.8], 1.2), ([1.0], [3.1], 1.25), ([1.0], [], 1.0)],
)
def test_an_odd_training_window_does_not_let_everything_pass(held_out, trained, known) -> None:
    assert known_novelty(held_out, trained) == pytest.approx(known)
    assert known_novelty([], trained) is None


def test_a_student_that_predicts_no_number_has_no_calibration(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step size that is too large overflows in evaluation first; no warning is an error."""
    found = []

    def overflowing(student: Student, samples: CalibrationSamples) -> object:
        for name, weights in student.named_parameters():
            if "tail" in name or "out" in name:
                weights.data.fill_(1e38)
        found.append(calibrate(student, samples))
        return found[-1]

    monkeypatch.setattr(train_run, "calibrate", overflowing)
    with contextlib.suppress(Distill3rError):  # the step after it is not finite
        train(run(make_cache(tmp_path / "cache"), tmp_path / "run"))
    assert found and not any(found)


def test_without_held_out_samples_there_is_no_calibration(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", held_out=0)
    train(run(cache, tmp_path / "run"))
    metadata = load_student(tmp_path / "run").metadata
    assert metadata is not None and metadata.calibration is None


@pytest.mark.parametrize("views", [1, 2, 3, 4, 7, 20, 64])
def test_windows_hold_views_of_the_sample_dense_and_sparse(views: int) -> None:
    windows = windows_of(views)
    assert windows[0] == range(views)
    assert all(0 <= view < views for window in windows for view in window)
    assert all(min(views, 4) <= len(window) for window in windows)
    assert len(set(windows)) == len(windows)
