"""A student of metric targets learns their size, and its weights say so."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import ConfigError, ConflictError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student, load_student
from distill3r_core.models.families import train_presets
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.multiview.spec import MultiviewSpec
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor
from distill3r_core.reconstruction.reconstruct import reconstruct
from distill3r_core.report import Silent
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.stages.train.overwriting import planned_deletion
from distill3r_core.stages.train.predicted_size import begin_with_size
from distill3r_core.stages.train.resolve import train_settings

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


@pytest.mark.parametrize("size", ["predicted", "free"])
def test_a_student_of_exact_metric_targets_is_metric(
    make_cache: MakeCache, tmp_path: Path, size: str
) -> None:
    """Points are 1 to 3 meters away; heads that learn the size start with all at 0.7."""
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    train(settings_for(cache, run, f"model.map_size={size}", steps=40))
    metadata = metadata_of(run)
    assert metadata.unit == "m" and metadata.settings["loss"]["metric"]
    assert metadata.calibration is not None
    error = metadata.calibration.scale_error
    assert error is not None and error < 0.15
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss_scale"] for row in rows if "loss_scale" in row]
    first = sum(losses[:5])
    if size == "free":
        assert sum(losses[-5:]) < 0.1 * first
    else:
        assert first < 5 * 2 * 0.15**2  # near the targets' size from the first step on
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


def test_who_learns_meters_predicts_the_size_unless_told_otherwise(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    """By the command's own settings; runs of before, which knew none, are the same runs."""
    cache = make_cache(tmp_path / "cache")
    assert train_settings(preset="tiny").model["map_size"] == "auto"

    def trained(name: str, *sets: str, start: Path | None = None, **more: Any) -> MultiviewSpec:
        options = {"preset": "tiny", "cache": cache, "output": tmp_path / name, "max_steps": 1}
        chosen = options if start is None else {**options, "start": start}
        train(train_settings(sets=sets, **chosen), **more)
        spec = metadata_of(tmp_path / name).spec
        assert isinstance(spec, MultiviewSpec)
        return spec

    assert trained("plain", "model.map_size=free").map_size == "free"
    identity = json.loads((tmp_path / "plain" / "run.json").read_text())["identity"]
    assert "map_size" not in identity["model"]
    assert trained("apart").map_size == "predicted"
    with pytest.raises(ConflictError, match=r"model.map_size: predicted → free"):
        trained("apart", "model.map_size=free")
    assert trained("apart", "model.map_size=predicted", resume=True).map_size == "predicted"
    assert trained("again", start=tmp_path / "apart").map_size == "predicted"
    assert trained("grown", start=tmp_path / "plain").map_size == "free"
    assert trained("relative", "loss.metric=false").map_size == "free"
    with pytest.raises(ConfigError, match="nothing teaches it"):
        trained("no", "model.map_size=predicted", "loss.metric=false")
    assert trained("shape", "loss.metric=false", start=tmp_path / "apart").map_size == "predicted"
    sizes = [load_student(tmp_path / name).state_dict() for name in ("apart", "again", "shape")]
    biases = [state["map_size.bias"] for state in sizes]
    assert biases[0] != biases[1] and biases[0] == biases[2]


def test_a_run_whose_size_is_in_the_heads_goes_on_as_it_began(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    """What a run of a version that knew no other comes to: its record names no size."""
    options = {"preset": "tiny", "cache": make_cache(tmp_path / "cache"), "max_steps": 1}
    run = tmp_path / "run"
    train(train_settings(sets=("model.map_size=free",), output=run, **options))
    again = train_settings(output=run, **options)
    assert train(again).finished_before
    assert planned_deletion(again) is None  # --overwrite leaves a finished run as well
    longer = train(train_settings(output=run, **{**options, "max_steps": 2}), resume=True)
    assert not longer.finished_before and longer.result["steps"] == 2
    spec = metadata_of(run).spec
    assert isinstance(spec, MultiviewSpec) and spec.map_size == "free"


def test_lengths_that_no_term_teaches_are_no_meters(make_cache: MakeCache, tmp_path: Path) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    train(settings_for(cache, run, "loss.terms.scale.weight=0", steps=1))
    metadata = metadata_of(run)
    assert metadata.unit == "none"
    assert isinstance(metadata.spec, MultiviewSpec) and metadata.spec.map_size == "free"


def test_the_predicted_size_begins_at_the_mean_of_the_training_targets(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", views=4)
    student = build_student("tiny", map_size="predicted")
    assert isinstance(student, MultiviewStudent) and student.map_size is not None
    begin_with_size(student, CacheUnion.open([cache]))
    stored, logs = TeacherCache(cache), []
    for name in stored.names("train"):
        targets = stored.read(name).targets
        for points, mask in zip(targets.points_local, targets.valid_mask, strict=True):
            logs.append(math.log(float(points.norm(dim=-1)[mask].mean())))
    maps = student(torch.rand(1, 2, 3, 28, 42))
    wanted = np.full((1, 2), np.mean(logs))
    assert maps.log_size.detach().numpy() == pytest.approx(wanted, abs=1e-4)
    student.map_size.begin(5.0)  # as if trained
    begin_with_size(student, CacheUnion.open([cache]))
    assert student.map_size.bias.tolist() == [5.0]
    free = build_student("tiny")
    before = {name: tensor.clone() for name, tensor in free.state_dict().items()}
    begin_with_size(free, CacheUnion.open([cache]))
    assert all(torch.equal(before[name], tensor) for name, tensor in free.state_dict().items())
