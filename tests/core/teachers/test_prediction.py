"""What all predictors promise of their progress, and of a caller who stops them."""

from dataclasses import replace

import pytest
import torch
from fast3r_folders import hub_tensors, write_folder
from official_folders import write_folder as write_official

from distill3r_core.prediction import Predictor
from distill3r_core.teachers import build_teacher

# Rows and columns of an image at which a forward pass takes milliseconds.
SMALL = {
    "fast3r": (32, 48), "da3-small": (28, 42), "vggt": (28, 42), "pi3": (28, 42),
    "mast3r": (32, 48), "dust3r-512-linear": (32, 48),
}  # fmt: skip
SETTINGS = {
    "vggt": {"point_map": "own"}, "mast3r": {"align_steps": 3},
    "dust3r-512-linear": {"align_steps": 3},
}  # fmt: skip


@pytest.fixture(scope="module", params=["depth", "synthetic", *SMALL])
def predictor(request, tmp_path_factory, golden_dir):
    name, folder = request.param, None
    if name == "fast3r":
        folder = write_folder(tmp_path_factory.mktemp("hub") / name, hub_tensors())
    elif name in SMALL:
        folder = write_official(tmp_path_factory.mktemp("hub") / name, golden_dir, name)
    return build_teacher(name, folder, **SETTINGS.get(name, {}))


@pytest.fixture
def prepared(predictor, views):
    prepared = [predictor.prepare(view) for view in views]
    if predictor.name in SMALL:
        rows, columns = SMALL[predictor.name]
        small = [view.image[:, :rows, :columns].contiguous() for view in prepared]
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
