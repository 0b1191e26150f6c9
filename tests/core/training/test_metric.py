"""A student of metric targets learns their size, and its weights say so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import load_student
from distill3r_core.models.families import train_presets
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor
from distill3r_core.reconstruction.reconstruct import reconstruct
from distill3r_core.report import Silent
from distill3r_core.stages.train import TrainSettings, train

MakeCache = Callable[..., Path]


class Notes(Silent):
    """Keeps what a stage says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def settings_for(cache: Any, run: Path, *sets: str, steps: int) -> TrainSettings:
    options = {"preset": "tiny", "cache": cache, "output": run, "max_steps": steps}
    return config.resolve(
        TrainSettings, section="train", options=options, sets=sets, presets=train_presets()
    )


def metadata_of(run: Path) -> StudentMetadata:
    metadata = load_student(run).metadata
    assert metadata is not None and metadata.calibration is not None
    return metadata


def test_a_student_of_exact_metric_targets_is_metric(make_cache: MakeCache, tmp_path: Path) -> None:
    """Points are 1 to 3 meters away; the student starts with all at 0.7."""
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    train(settings_for(cache, run, steps=40))
    metadata = metadata_of(run)
    assert metadata.unit == "m" and metadata.settings["loss"]["metric"]
    assert metadata.calibration is not None
    error = metadata.calibration.scale_error
    assert error is not None and error < 0.15
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss_scale"] for row in rows if "loss_scale" in row]
    assert sum(losses[-5:]) < 0.1 * sum(losses[:5])
    student = load_student(run)
    assert StudentPredictor(student, ImageFit(size=(28, 42))).metric
    held_out = next(iter(TeacherCache(cache).names("val")))
    sample = TeacherCache(cache).read(held_out)
    pixels = list(sample.images.movedim(1, -1).numpy())
    scene = reconstruct(pixels, student, pnp=False, refine=False)
    true = sample.targets.points_local[..., 2][sample.targets.valid_mask].median()
    found = np.median(np.concatenate([view.depth.ravel() for view in scene.views]))
    assert found == pytest.approx(float(true), rel=0.2)
    assert scene.scale.unit == "m" and scene.scale.error == error
    assert f"off by {error:.0%} on held-out images" in scene.scale.source


def test_a_student_that_was_taught_shapes_alone_is_relative(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    train(settings_for(cache, run, "loss.metric=false", steps=2))
    metadata = metadata_of(run)
    assert metadata.unit == "none" and metadata.calibration is not None
    assert metadata.calibration.scale_error is None


def test_targets_in_no_known_unit_leave_the_size_alone(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    """Caches in different units say so; one relative teacher is nothing unusual."""
    meters = make_cache(tmp_path / "meters")
    relative = make_cache(tmp_path / "relative", metric=False)
    for caches, said in ((relative, False), ((meters, relative), True)):
        notes, run = Notes(), tmp_path / f"run-{said}"
        train(settings_for(caches, run, steps=1), progress=notes)
        assert metadata_of(run).unit == "none"
        about = [note for note in notes.said if "loss.metric=false" in note]
        assert len(about) == said
        assert all(f"the targets of {relative} are not in meters" in note for note in about)
    wanted = settings_for((meters, relative), tmp_path / "no", "loss.metric=true", steps=1)
    with pytest.raises(ConfigError, match=f"loss.metric: the targets of {relative} are not"):
        train(wanted)
    weightless = ("loss.metric=true", "loss.terms.scale.weight=0")
    with pytest.raises(ConfigError, match="`scale` has weight 0"):
        train(settings_for(meters, tmp_path / "no", *weightless, steps=1))
    assert not (tmp_path / "no").exists()


def test_what_the_caches_decide_may_be_said_too(make_cache: MakeCache, tmp_path: Path) -> None:
    """The run is the same with the default and with what it comes to."""
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    train(settings_for(cache, run, steps=1))
    again = train(settings_for(cache, run, "loss.metric=true", steps=1), resume=True)
    assert again.finished_before
