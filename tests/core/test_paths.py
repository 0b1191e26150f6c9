"""The default paths chain: the newest run is the one that was worked on last."""

import os

from distill3r_core import paths


def make_run(runs, name, *, at, checkpoint="last"):
    folder = runs / name / "checkpoints" / checkpoint
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    os.utime(folder.parent, (at, at))


def test_the_newest_run_is_the_one_whose_checkpoints_changed_last(tmp_path):
    make_run(tmp_path, "tiny-002", at=100)
    make_run(tmp_path, "tiny-001", at=200)
    assert paths.newest_run(tmp_path) == tmp_path / "tiny-001"


def test_a_run_without_checkpoints_is_not_a_run(tmp_path):
    (tmp_path / "tiny-001" / "checkpoints").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "checkpoints").touch()
    assert paths.newest_run(tmp_path) is None


def test_best_is_preferred_to_last(tmp_path):
    make_run(tmp_path, "a", at=1)
    assert paths.best_checkpoint(tmp_path / "a").parent.name == "last"
    make_run(tmp_path, "a", at=2, checkpoint="best")
    assert paths.best_checkpoint(tmp_path / "a").parent.name == "best"


def test_numbers_count_on_from_the_highest_of_their_own_stem(tmp_path):
    for name in ("tiny-001", "tiny-007", "tiny-fast-012", "small-009"):
        (tmp_path / name).mkdir()
    assert paths.next_numbered(tmp_path, "tiny").name == "tiny-008"
    assert paths.next_numbered(tmp_path, "paper").name == "paper-001"
