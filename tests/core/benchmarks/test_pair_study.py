"""The pair study, in its smallest form: cells, resumption, the teacher's own row."""

import json
from pathlib import Path

import pytest
import torch

from distill3r_core.benchmarks.pairs import PairStudySettings, bench_pairs
from distill3r_core.benchmarks.pairs.pair_cells import CELLS, STUDY
from distill3r_core.benchmarks.pairs.pair_data import PairRooms
from distill3r_core.benchmarks.pairs.pair_trial import (
    PairSizes,
    run_pair_trial,
    train_pair_teacher,
)
from distill3r_core.config import validate
from distill3r_core.errors import ConfigError
from distill3r_core.models import load_student
from distill3r_core.report import Silent

TINY = {
    "seeds": 1,
    "steps": 2,
    "teacher_steps": 2,
    "batch": 2,
    "size": (32, 48),
    "scenes": 1,
    "frames": 6,
    "every": 3,
}


class Impatient(Silent):
    """Interrupts after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def advance(self, count: int = 1, **figures: object) -> None:
        self.left -= count
        if self.left == 0 and count:
            raise KeyboardInterrupt


def test_every_cell_trains_a_student_and_finished_ones_are_kept(tmp_path: Path) -> None:
    settings = validate(PairStudySettings, {**TINY, "output": tmp_path / "s"}, source="a test")
    silent = Silent()
    result = bench_pairs(settings, progress=silent).result
    # Told once, before the first step.
    (told,) = (note for note in silent.notes if "of training, on one thread" in note)
    assert told == silent.notes[0]
    assert [row["cell"] for row in result["rows"]] == list(STUDY)
    assert [(row["cell"], row["against"]) for row in result["paired"]] == [
        *((name, "none") for name in STUDY if name != "none"),
        ("encoder-halved", "decoder-halved"),
        ("features-frozen", "features"),
        ("subspace", "svd"),
    ]
    errors = {row["cell"]: row["mean"]["global_error"] for row in result["rows"]}
    for row in result["paired"]:
        difference = errors[row["cell"]] - errors[row["against"]]
        assert row["mean"]["global_error"] == pytest.approx(difference)
    assert result["teacher"]["global_error"] > 0
    halved = {row["cell"]: row["parameters"] for row in result["rows"]}
    assert halved["encoder-halved"] == pytest.approx(halved["decoder-halved"], rel=0.02)
    # Interrupted in its fourth student, it keeps three and continues with that one.
    other = validate(PairStudySettings, {**TINY, "output": tmp_path / "o"}, source="a test")
    with pytest.raises(KeyboardInterrupt):
        bench_pairs(other, progress=Impatient(9))
    kept = sorted(path.name for path in (tmp_path / "o").glob("*-0.json"))
    assert kept == ["none-0.json", "subspace-0.json", "svd-0.json"]
    written = (tmp_path / "o" / "svd-0.json").stat().st_mtime_ns
    again = bench_pairs(other).result
    assert (tmp_path / "o" / "svd-0.json").stat().st_mtime_ns == written

    def figures(found: dict) -> str:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in found["rows"]]
        return json.dumps(rows)

    assert figures(again) == figures(result)


def test_the_study_has_at_most_eight_cells_and_each_is_another_student() -> None:
    assert len(STUDY) <= 8
    assert len({json.dumps({**vars(cell), "summary": ""}) for cell in CELLS.values()}) == len(CELLS)
    with pytest.raises(ConfigError, match="twice"):
        validate(PairStudySettings, {"cells": ("none", "none")}, source="a test")


def test_sparse_truth_is_of_the_same_pixels_of_a_frame_whenever_it_is_drawn() -> None:
    rooms = PairRooms.rendered(2, 6, (32, 48), every=3)
    frames = torch.cat([scene.images for scene in rooms.scenes])
    masks: dict[int, list[torch.Tensor]] = {}
    for batch in rooms.batches(100, size=2, seed=0, share=0.01):  # 200 draws of two frames
        for images, drawn in zip(batch.images, batch.targets.valid_mask, strict=True):
            for image, mask in zip(images, drawn, strict=True):
                (frame,) = (frames == image).flatten(1).all(1).nonzero()[0].tolist()
                masks.setdefault(frame, []).append(mask)
    assert sorted(masks) == [1, 2, 4, 5, 7, 8, 10, 11]  # all but every third
    for shown in masks.values():
        assert len(shown) > 10
        assert all(torch.equal(mask, shown[0]) for mask in shown)
        union = torch.stack(shown).any(0)
        assert 0 < union.double().mean() <= 0.012
    first = [shown[0] for shown in masks.values()]
    assert not any(torch.equal(first[0], other) for other in first[1:])  # each frame its own


def test_a_frozen_encoder_is_that_of_the_cell_before(tmp_path: Path) -> None:
    sizes = PairSizes(steps=2, teacher_steps=1, batch=2, lr=1e-3, size=(32, 48))
    rooms = PairRooms.rendered(1, 6, (32, 48), every=3)
    teacher, first, second = (tmp_path / f"{name}.safetensors" for name in "abc")
    train_pair_teacher(rooms, sizes, teacher, lambda: None)
    run_pair_trial("features", 0, rooms, sizes, teacher, lambda: None, kept_at=first)
    run_pair_trial(
        "features-frozen", 0, rooms, sizes, teacher, lambda: None,
        encoder_path=first, kept_at=second,
    )  # fmt: skip
    before, after = (load_student(path).state_dict() for path in (first, second))
    encoder = [name for name in before if name.startswith("encoder.")]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder)
    assert not all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ConfigError, match="begins with the encoder of features: name it first"):
        validate(PairStudySettings, {"cells": ["none", "features-frozen"]}, source="a test")
