"""What all predictors promise of their progress, and of a caller who stops them."""

from dataclasses import replace

import pytest
import torch
from fast3r_folders import hub_tensors, write_folder

from distill3r_core.prediction import Predictor
from distill3r_core.teachers import build_teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("hub") / "fast3r", hub_tensors())


@pytest.fixture(params=["depth", "synthetic", "fast3r"])
def predictor(request, folder):
    name = request.param
    return build_teacher(name, folder if name == "fast3r" else None)


@pytest.fixture
def prepared(predictor, views):
    prepared = [predictor.prepare(view) for view in views]
    if predictor.name == "fast3r":  # a forward pass of milliseconds
        small = [view.image[:, :32, :48].contiguous() for view in prepared]
        return [
            replace(view, image=image, depth=None)
            for view, image in zip(prepared, small, strict=True)
        ]
    return prepared


class Steps:
    """Records steps, and stops the prediction after some of them."""

    def __init__(self, stop_after=None):
        self.seen, self.stop_after = [], stop_after

    def __call__(self, phase, done, total):
        self.seen.append((phase, done, total))
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt


def test_a_teacher_is_a_predictor(predictor):
    assert isinstance(predictor, Predictor)
    assert all(isinstance(text, str) and text for text in predictor.licenses)


def test_every_phase_begins_at_zero_rises_and_ends_at_its_total(predictor, prepared):
    steps = Steps()
    predictor.predict(prepared, on_progress=steps)
    phases = {phase: total for phase, _, total in steps.seen}
    assert phases
    for phase, total in phases.items():
        counts = [done for name, done, _ in steps.seen if name == phase]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (0, total)


def test_a_callback_that_raises_stops_the_prediction_and_the_next_one_is_whole(predictor, prepared):
    wanted = predictor.predict(prepared)
    steps = Steps(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        predictor.predict(prepared, on_progress=steps)
    assert len(steps.seen) == 2
    again = predictor.predict(prepared)
    for before, after in zip(wanted.points_local, again.points_local, strict=True):
        assert torch.equal(before, after)
