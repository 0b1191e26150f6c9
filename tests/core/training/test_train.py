"""A run from its start to its end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_caches import depth_maps

from distill3r_core import config
from distill3r_core.errors import CacheError, ConfigError, ConflictError, InputMissingError
from distill3r_core.models import load_student
from distill3r_core.models.families import train_presets
from distill3r_core.report import Silent
from distill3r_core.runs.training_images import read_training_images
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.training.machine_usage import format_machine_usage

MakeCache = Callable[..., Path]


def settings_for(cache: Path, run: Path | None, *sets: str, **options: Any) -> TrainSettings:
    """A tiny run of six steps."""
    given = {"preset": "tiny", "cache": cache, "output": run, "max_steps": 6, **options}
    return config.resolve(
        TrainSettings, section="train", options=given, sets=sets, presets=train_presets()
    )


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_all_that_its_readers_need(make_cache: MakeCache, tmp_path: Path) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    settings = settings_for(
        cache, run, "checkpoint.every_steps=2", "validation.every_steps=3", "checkpoint.keep=1"
    )
    report = train(settings)
    assert report.result["step"] == 6
    assert report.result["ending"] == "complete"
    steps = [row["step"] for row in rows_of(run) if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows_of(run) if "validation_loss" in row] == [3, 6]
    assert all(row["time"] > 1e9 for row in rows_of(run))
    for name in ("last", "best"):
        assert (run / "checkpoints" / name / "model.safetensors").is_file()
        state = json.loads((run / "checkpoints" / name / "state.json").read_text())
        assert state["step"] in (3, 6)
    student = load_student(run)
    assert student.metadata is not None
    assert student.metadata.preset == "tiny"
    assert student.metadata.size == (28, 42)
    pictures = read_training_images(run / "pictures.txt")
    assert len(pictures) == 4 * 4  # held-out frames are not training frames
    again = config.resolve(
        TrainSettings, section="train", config=str(run / "config.yaml"), presets=train_presets()
    )
    decided = replace(settings, loss=replace(settings.loss, metric=True))
    assert again == replace(decided, model={"map_size": "predicted"})


@pytest.mark.parametrize(
    ("sets", "figure"),
    [
        ((), "shape"),
        (("validation.best=loss",), "loss"),
        (("loss.alpha_local=0",), "loss"),  # nothing teaches local maps
    ],
)
def test_best_is_the_least_of_the_figure_that_is_asked_for(
    make_cache: MakeCache, tmp_path: Path, sets: tuple[str, ...], figure: str
) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    # Steps that are far too long: neither figure falls steadily.
    train(settings_for(cache, run, "validation.every_steps=1", "optim.lr=0.005", *sets))
    rows = {row["step"]: row for row in rows_of(run) if "validation_loss" in row}
    assert len(rows) == 6
    state = json.loads((run / "checkpoints" / "best" / "state.json").read_text())
    assert state["step"] == min(rows, key=lambda step: rows[step][f"validation_{figure}"])
    assert state["best"] == rows[state["step"]]["validation_loss"]


def test_a_finished_run_is_said_to_be_done_and_another_is_a_conflict(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache, run = make_cache(tmp_path / "cache"), tmp_path / "run"
    settings = settings_for(cache, run, max_steps=1)
    first = train(settings)
    for resume in (False, True):
        again = train(settings, resume=resume)
        assert again.finished_before and again.result == first.result
        assert again.machine == first.machine and first.machine["device"] == "cpu"
    other = settings_for(cache, run, "optim.lr=0.5", max_steps=1)
    for resume in (False, True):
        with pytest.raises(ConflictError, match=r"optim\.lr: 0\.0015 → 0\.5"):
            train(other, resume=resume)
    assert not train(other, overwrite=True).finished_before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(ConflictError, match="other files"):
        train(settings_for(cache, tmp_path / "letters", max_steps=1))


def test_a_cache_that_lacks_planned_samples_is_refused_unless_allowed(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", missing=["made/02/000"])
    settings = settings_for(cache, tmp_path / "run", max_steps=1)
    with pytest.raises(CacheError, match="made/02/000") as caught:
        train(settings)
    assert "--allow-missing" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()
    silent = Silent()
    train(settings_for(cache, tmp_path / "run", max_steps=1, allow_missing=True), progress=silent)
    assert any("made/02/000" in note for note in silent.notes)


def test_cameras_nearby_need_a_cache_that_knows_its_cameras(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    moved = ("data.turn=10", "data.shift=0.1")
    without = settings_for(make_cache(tmp_path / "maps"), tmp_path / "run", *moved, max_steps=1)
    with pytest.raises(ConfigError, match=r"maps holds no depth maps .*teacher: made") as caught:
        train(without)
    assert "--set data.turn=0 --set data.shift=0" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()
    cache = make_cache(tmp_path / "depth", change=depth_maps)
    train(settings_for(cache, tmp_path / "run", *moved, max_steps=1))
    assert identity_in(tmp_path / "run")["data"].items() >= {"turn": 10.0, "shift": 0.1}.items()
    with pytest.raises(ConfigError, match=r"turn, shift.*whole maps, not sparse"):
        settings_for(cache, tmp_path / "other", *moved, "data.sparse=0.1")


def identity_in(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())["identity"]


def test_what_earlier_versions_did_not_know_is_no_part_of_a_run_that_does_without(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    settings = settings_for(make_cache(tmp_path / "cache"), tmp_path / "run", max_steps=1)
    train(settings)
    identity = identity_in(tmp_path / "run")
    assert not identity.keys() & {"scene", "init_images"}
    assert not identity["data"].keys() & {"span", "turn", "shift"}
    assert "best" not in identity["validation"]
    assert train(settings).finished_before


def test_without_a_cache_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError) as caught:
        train(settings_for(tmp_path / "none", tmp_path / "run"))
    assert "distill3r cache" in str(caught.value.hint)


def test_a_student_smaller_than_its_cache_resizes_it_and_records_that(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=[(56, 84), (84, 56), (56, 84), (84, 56)])
    silent = Silent()
    train(settings_for(cache, tmp_path / "run", "data.size=[28, 42]", max_steps=2), progress=silent)
    assert any("56x84" in note and "28x42" in note for note in silent.notes)
    student = load_student(tmp_path / "run")
    assert student.metadata is not None
    assert student.metadata.size == (28, 42)
    assert tuple(student.metadata.fit["resized"]) == (28, 42)
    assert tuple(student.metadata.fit["size"]) == (56, 84)


def test_a_warm_up_that_outlasts_the_run_is_warned_of(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache, silent = make_cache(tmp_path / "cache"), Silent()
    settings = settings_for(cache, tmp_path / "run", "schedule.warmup_steps=6")
    train(settings, progress=silent)
    assert any("warm-up takes 6 steps and the run has 6" in note for note in silent.notes)
    short, quiet = settings_for(cache, tmp_path / "other", "schedule.warmup_steps=5"), Silent()
    train(short, progress=quiet)
    assert not any("warm-up" in note for note in quiet.notes)


def test_memory_is_told_with_every_step(make_cache: MakeCache, tmp_path: Path) -> None:
    train(settings_for(make_cache(tmp_path / "cache"), tmp_path / "run", max_steps=1, device="cpu"))
    assert rows_of(tmp_path / "run")[0]["rss_bytes"] > 100e6


def test_gpu_figures_are_spelled_for_people() -> None:
    gib = 1024**3
    figures = {
        "gpu_allocated_bytes": 1.5 * gib,
        "gpu_reserved_bytes": 2 * gib,
        "gpu_free_bytes": 20 * gib,
        "gpu_utilization": 97.0,
    }
    shown = format_machine_usage(figures)
    assert shown["GPU memory"] == "allocated 1.50 · reserved 2.00 · free 20.00 GiB"
    assert shown["GPU busy"] == "97%"


def test_overwrite_removes_a_linked_folder_of_checkpoints_as_a_link(make_cache, tmp_path):
    cache, run, other = make_cache(tmp_path / "cache"), tmp_path / "run", tmp_path / "other"
    train(settings_for(cache, run, max_steps=2))
    (run / "checkpoints").rename(other)
    (run / "checkpoints").symlink_to(other)
    kept = sorted(path.name for path in other.iterdir())
    with pytest.raises(ConflictError, match="checkpoints is a link"):
        train(settings_for(cache, run, max_steps=4), resume=True)
    train(settings_for(cache, run, max_steps=1), overwrite=True)
    assert sorted(path.name for path in other.iterdir()) == kept
    assert not (run / "checkpoints").is_symlink()
