"""What a faulty step leaves in the running means of batch norms: nothing."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fault_material import MakeCache, settings_for, weights_of

from distill3r_core.errors import DivergedError
from distill3r_core.stages.train import train
from distill3r_core.training import loop as loop_module
from distill3r_core.training.loop import TrainLoop


def test_a_run_that_ends_with_ruined_running_means_is_no_success(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=((32, 48),) * 4)
    step = TrainLoop._step

    def ruining(loop: TrainLoop, *given: Any) -> Any:
        found = step(loop, *given)
        buffers = dict(loop.parts.student.named_buffers())
        next(value for name, value in buffers.items() if "running_mean" in name)[0] = math.nan
        return found

    monkeypatch.setattr(TrainLoop, "_step", ruining)
    sets = ("model.encoder={kind: cnn}", "data.batch=2")
    settings = settings_for(cache, tmp_path / "run", *sets, preset="pair-tiny", max_steps=1)
    with pytest.raises(DivergedError, match=r"not finite \(first: .*running_mean\)"):
        train(settings)


def test_a_skipped_step_leaves_no_mark_in_running_means(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=((32, 48),) * 4)
    step, seen = TrainLoop._step, []

    def burst(loop: TrainLoop, batch: Any, *given: Any) -> Any:
        student = loop.parts.student
        before = {name: value.clone() for name, value in student.named_buffers()}
        if len(seen) == 1:  # an encoder that overflows, as in half precision
            first = next(one for one in student.modules() if isinstance(one, torch.nn.BatchNorm2d))
            handle = first.register_forward_pre_hook(lambda _, inputs: inputs[0] * math.inf)
            found = step(loop, batch, *given)
            handle.remove()
        else:
            found = step(loop, batch, *given)
        changed = [
            name for name, value in student.named_buffers() if not torch.equal(before[name], value)
        ]
        seen.append(any("running_mean" in name for name in changed))
        return found

    monkeypatch.setattr(TrainLoop, "_step", burst)
    sets = ("model.encoder={kind: cnn}", "data.batch=2")
    settings = settings_for(cache, tmp_path / "run", *sets, preset="pair-tiny", max_steps=3)
    report = train(settings)
    assert report.result["ending"] == "complete"
    assert seen == [True, False, True]
    assert len(list((tmp_path / "run" / "nan").iterdir())) == 1
    assert all(tensor.isfinite().all() for tensor in weights_of(tmp_path / "run").values())


def test_a_step_that_is_done_again_changes_running_means_once(
    make_cache: MakeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=((32, 48),) * 4)
    sets = ("model.encoder={kind: cnn}", "data.batch=2", "data.accumulation=1")
    settings = settings_for(cache, tmp_path / "run", *sets, preset="pair-tiny", max_steps=2)
    train(settings)
    once, seen = weights_of(tmp_path / "run"), []
    whole = loop_module.accumulate

    def lacks_memory(*given: Any, **options: Any) -> Any:
        found = whole(*given, **options)
        seen.append(options["micro_batch"])
        if len(seen) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(loop_module, "accumulate", lacks_memory)
    # The pass is not made smaller: what is left of the first try alone could make a difference.
    monkeypatch.setattr(TrainLoop, "_make_room", _retry(TrainLoop._make_room))
    train(replace(settings, output=tmp_path / "again"))
    assert len(seen) == 3
    again = weights_of(tmp_path / "again")
    assert all(torch.equal(tensor, again[name]) for name, tensor in once.items())


def _retry(make_room: Callable[..., None]) -> Callable[..., None]:
    def retried(loop: TrainLoop, *given: Any, **options: Any) -> None:
        before = loop.state.micro_batch
        make_room(loop, *given, **options)
        loop.state.micro_batch = before

    return retried
