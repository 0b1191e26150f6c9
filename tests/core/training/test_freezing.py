"""Parts of a student that are not trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill3r_core import config
from distill3r_core.errors import ConfigError
from distill3r_core.models import build_student
from distill3r_core.models.families import train_presets
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.training.freezing import Freezer
from distill3r_core.training.settings import OptimSettings

MakeCache = Callable[..., Path]


def settings(cache: Path, run: Path, *sets: str, **options: Any) -> TrainSettings:
    given = {"preset": "pair-tiny", "cache": cache, "output": run, "max_steps": 3, **options}
    every = [
        "checkpoint.every_steps=1",
        "checkpoint.keep=9",
        "data.batch=2",
        "model.encoder={kind: cnn}",
        *sets,
    ]
    return config.resolve(
        TrainSettings, section="train", options=given, sets=every, presets=train_presets()
    )


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def changed(run: Path, before: int, after: int) -> set[str]:
    """Parts of the student in which a number differs between two checkpoints."""
    first, second = weights(run, before), weights(run, after)
    return {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}


def test_a_frozen_encoder_keeps_its_weights_and_running_means(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=((32, 48),) * 4)
    train(settings(cache, tmp_path / "run", "optim.freeze=encoder"))
    assert changed(tmp_path / "run", 1, 3) == {"adapter", "decoder", "first_head", "second_head"}


def test_an_encoder_may_be_frozen_at_first_and_resumes_to_the_bit(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=((32, 48),) * 4)
    sets = ("optim.freeze=encoder", "optim.freeze_steps=2")
    train(settings(cache, tmp_path / "run", *sets))
    assert "encoder" not in changed(tmp_path / "run", 1, 2)
    assert "encoder" in changed(tmp_path / "run", 2, 3)
    train(settings(cache, tmp_path / "parts", *sets, max_hours=1e-9))
    train(settings(cache, tmp_path / "parts", *sets), resume=True)
    found, wanted = weights(tmp_path / "parts", 3), weights(tmp_path / "run", 3)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_part_that_is_not_there_is_refused_with_those_that_are() -> None:
    student = build_student("tiny")
    with pytest.raises(ConfigError, match="'encodr'") as caught:
        Freezer(student, OptimSettings(freeze=("encodr",)))
    assert "encoder" in (caught.value.hint or "")
    parts = ("encoder", "fusion", "global_head", "local_head")
    with pytest.raises(ConfigError, match="nothing to train"):
        Freezer(build_student("tiny"), OptimSettings(freeze=parts))


def test_a_student_of_one_part_is_told_by_what_is_in_it() -> None:
    student = build_student("scene-mobilenet")
    with pytest.raises(ConfigError, match="nothing to train") as caught:
        Freezer(student, OptimSettings(freeze=("network",)))
    assert "network.trunk" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="'trunk'") as caught:
        Freezer(student, OptimSettings(freeze=("trunk",)))
    assert "network.trunk" in (caught.value.hint or "")


def test_steps_without_a_part_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optim\.freeze_steps: 5 steps") as caught:
        Freezer(build_student("tiny"), OptimSettings(freeze_steps=5))
    assert "optim.freeze=NAME, one of encoder" in (caught.value.hint or "")
