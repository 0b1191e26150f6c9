"""No file beside the checkpoints of a run costs the run; its checkpoints belong to it alone."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import equal

from distill3r_core.errors import ConflictError, DamageError, UnsafeFileError, WeightsError
from distill3r_core.io import checksums
from distill3r_core.models import load_student
from distill3r_core.report import Silent
from distill3r_core.runs.run_record import read_record
from distill3r_core.runs.training_images import read_training_images
from distill3r_core.stages.train import TrainSettings, train
from distill3r_core.stages.train.overwriting import deletion_of, planned_deletion
from distill3r_core.training import checkpoints
from distill3r_core.training.metrics_log import MetricsLog, read_metrics
from distill3r_core.training.run_state import state_from
from distill3r_core.training.settings import CheckpointSettings


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def tiny(cache: Path, run: Path, **more) -> TrainSettings:
    values = {"max_steps": 3, "checkpoint": CheckpointSettings(every_steps=1)} | more
    return TrainSettings(cache=cache, output=run, preset="tiny", device="cpu", **values)


@pytest.fixture(scope="module")
def trained(make_cache, tmp_path_factory) -> tuple[Path, Path, Path]:
    """A cache, a finished run on it, and the same run stopped after a step."""
    folder = tmp_path_factory.mktemp("trained")
    cache = make_cache(folder / "cache")
    train(tiny(cache, folder / "whole"))
    train(tiny(cache, folder / "stopped", max_hours=1e-9))
    return cache, folder / "whole", folder / "stopped"


def _weights(run: Path):
    return load_file(run / "checkpoints/last/model.safetensors")


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b"\x00\xff junk\n[1]\n{}\n"),
    "flipped": lambda path: _flip(path, 40),
    "nested": lambda path: path.write_bytes(b"[" * 50_000 + b"\n"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "missing": lambda path: path.unlink(missing_ok=True),
}


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json", "checkpoints/micro-batch.txt"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_side_file_costs_nothing(trained, tmp_path, name, damage):
    cache, whole, stopped = trained
    run = tmp_path / "run"
    shutil.copytree(stopped, run, symlinks=True)
    checkpoints.write_micro_batch(run, 64)  # more than a batch: changes nothing
    DAMAGE[damage](run / name)
    notes = Notes()
    report = train(tiny(cache, run), resume=True, progress=notes)
    assert report.result["step"] == 3
    # Rows that end in the midst of one are what a kill leaves.
    unseen = name == "metrics.jsonl" and damage in ("empty", "cut")
    if damage != "missing" and not unseen:
        assert any(Path(name).name in text for text in notes.notes), notes.notes
    mine, theirs = _weights(run), _weights(whole)
    assert all(equal(mine[key], theirs[key]) for key in theirs)
    record = read_record(run, warn=pytest.fail)
    assert record is not None
    assert record["finished"]
    assert train(tiny(cache, run)).finished_before


def test_a_finished_run_whose_record_is_damaged_is_not_called_other_files(trained, tmp_path):
    cache, whole, _ = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    _flip(run / "run.json", 300)
    with pytest.raises(ConflictError, match="holds this run") as error:
        train(tiny(cache, run))
    assert "--resume" in (error.value.hint or "")
    before = _weights(run)
    assert train(tiny(cache, run), resume=True).result["step"] == 3
    assert all(equal(before[key], value) for key, value in _weights(run).items())


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_eval_reads_of_a_finished_run_is_made_again_by_train(trained, tmp_path, damage):
    cache, whole, _ = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    # A flipped or cut configuration may be one that can be read.
    names = ["pictures.txt"] if damage in ("flipped", "cut") else ["pictures.txt", "config.yaml"]
    for name in names:
        DAMAGE[damage](run / name)
    with pytest.raises((DamageError, FileNotFoundError)):
        read_training_images(run / "pictures.txt")
    notes = Notes()
    assert train(tiny(cache, run), progress=notes).finished_before
    assert len([text for text in notes.notes if "made again" in text]) == len(names)
    for name in names:
        assert (run / name).read_text().replace(str(run), str(whole)) == (whole / name).read_text()
    again = Notes()
    train(tiny(cache, run), progress=again)
    assert not any("made again" in text for text in again.notes)


def test_a_damaged_line_of_the_metrics_is_named_and_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, after=0)
    for step in range(1, 5):
        log.add(step, loss=1.0 / step, note="a\u2028b")
    log.close()
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"loss": 0.5', b'"loss": 0.7')
    lines[2] = b"\xff\xfe"
    path.write_bytes(b"\n".join(lines) + b'{"step": 5, "ti')
    told = []
    assert [row["step"] for row in read_metrics(path, warn=told.append)] == [1, 4]
    assert [text.split(" is damaged")[0] for text in told] == [
        f"warning: {path}:2", f"warning: {path}:3"
    ]  # fmt: skip
    MetricsLog(path, after=9).close()
    assert [row["step"] for row in read_metrics(path, warn=pytest.fail)] == [1, 4]


@pytest.mark.parametrize("other", [{"seed": 7}, {"seed": 8, "max_steps": 2}])
def test_a_checkpoint_of_another_run_is_refused_by_name(trained, tmp_path, other):
    cache, whole, stopped = trained
    train(tiny(cache, tmp_path / "other", **other))
    guest = next((tmp_path / "other").glob("checkpoints/step-000002"))
    for source, resume in ((stopped, True), (whole, False)):
        run = tmp_path / source.name
        shutil.copytree(source, run, symlinks=True)
        shutil.rmtree(run / "checkpoints/step-000002", ignore_errors=True)
        shutil.copytree(guest, run / "checkpoints/step-000002")
        with pytest.raises(ConflictError, match="step-000002 is a checkpoint of another run"):
            train(tiny(cache, run), resume=resume)
        with pytest.raises(WeightsError, match="another run"):
            load_student(run / "checkpoints/step-000002")
        shutil.rmtree(run / "checkpoints/step-000002")
        assert train(tiny(cache, run), resume=True).result["step"] == 3


def test_overwrite_says_what_it_deletes_and_long_work_is_to_be_confirmed(trained, tmp_path):
    cache, whole, _ = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    assert planned_deletion(tiny(cache, run)) is None  # finished: nothing is deleted
    other = tiny(cache, run, seed=3)
    short = planned_deletion(other)
    assert short is not None
    assert not short.is_long
    path = run / "metrics.jsonl"
    rows = list(read_metrics(path))
    log = MetricsLog(path, after=0)
    for row in rows:
        log.add(row["step"], seconds=400.0)
    log.close()
    long = deletion_of(run)
    assert long is not None
    assert long.is_long
    path.unlink()
    unknown = deletion_of(run)
    assert unknown is not None
    assert unknown.is_long
    notes = Notes()
    train(replace(other, max_steps=1), overwrite=True, progress=notes)
    assert any(
        "--overwrite deletes the run in" in text and "step 3" in text for text in notes.notes
    )


def test_a_checkpoint_says_whose_it_is(trained):
    _, whole, _ = trained
    record = json.loads((whole / "run.json").read_text())
    for state in whole.glob("checkpoints/step-*/state.json"):
        assert json.loads(state.read_text())["owner"] == record["owner"]


STATES = [
    {"step": "3"}, {"files": []}, {"files": {"../../x": "0"}}, {"files": {"model.safetensors": 1}},
    {"micro_batch": "many"}, {"micro_batch": 0}, {"best": "low"}, {"best_step": 1.5},
    {"last_validation": [1]}, {"skipped_in_a_row": None},
]  # fmt: skip


@pytest.mark.parametrize("change", STATES)
def test_a_state_with_a_right_checksum_and_wrong_content_is_damage(trained, tmp_path, change):
    run = tmp_path / "run"
    shutil.copytree(trained[1], run, symlinks=True)
    folder = run / "checkpoints/step-000003"
    checksums.write_state(folder, checksums.read_state(folder) | change)
    with pytest.raises(DamageError, match=r"state\.json is damaged"):
        state_from(checkpoints.read(folder))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_whose_only_checkpoint_has_lost_its_state_is_named_and_made_anew(
    trained, tmp_path, damage
):
    cache, whole, stopped = trained
    run = tmp_path / "run"
    shutil.copytree(stopped, run, symlinks=True)
    (state,) = run.glob("checkpoints/step-*/state.json")
    DAMAGE[damage](state)
    with pytest.raises(
        DamageError, match=r"every checkpoint .* is damaged: .*state\.json"
    ) as error:
        train(tiny(cache, run), resume=True)
    assert f"--overwrite -o {run}" in (error.value.hint or "")
    assert state.with_name("model.safetensors").exists()  # until --overwrite is said
    train(tiny(cache, run), overwrite=True)
    mine, theirs = _weights(run), _weights(whole)
    assert all(equal(mine[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_state_that_is_lost_costs_no_more_than_its_checkpoint(trained, tmp_path, damage):
    cache, whole, _ = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    (run / "run.json").unlink()  # not known to be finished: the newest checkpoint is read
    DAMAGE[damage](run / "checkpoints/step-000003/state.json")
    assert (run / "checkpoints/step-000002").is_dir()
    assert train(tiny(cache, run), resume=True).result["step"] == 3
    mine, theirs = _weights(run), _weights(whole)
    assert all(equal(mine[key], theirs[key]) for key in theirs)


def test_a_flipped_bit_in_the_list_of_training_images_is_noticed(trained, tmp_path):
    path = tmp_path / "pictures.txt"
    shutil.copyfile(trained[1] / "pictures.txt", path)
    assert len(read_training_images(path)) > 2
    lines = path.read_text().splitlines(keepends=True)
    for kept in range(len(lines)):  # cut between two lines
        path.write_text("".join(lines[:kept]))
        with pytest.raises(DamageError, match=r"pictures\.txt is damaged"):
            read_training_images(path)
    for at in (0, 20, -3):
        shutil.copyfile(trained[1] / "pictures.txt", path)
        _flip(path, at)
        with pytest.raises(DamageError, match=r"pictures\.txt is damaged"):
            read_training_images(path)


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl"])
def test_a_run_writes_to_nothing_through_links(trained, tmp_path, name):
    cache, _, stopped = trained
    run = tmp_path / "run"
    shutil.copytree(stopped, run, symlinks=True)
    (tmp_path / "precious").write_text("precious\n")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "precious")
    with contextlib.suppress(UnsafeFileError):  # a link of the metrics is replaced
        train(tiny(cache, run), resume=True)
    assert (tmp_path / "precious").read_text() == "precious\n"


@pytest.mark.parametrize("answer", ["n", "y"])
def test_overwrite_asks_at_a_terminal_before_long_work_is_deleted(trained, tmp_path, answer):
    cache, whole, _ = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    log = MetricsLog(run / "metrics.jsonl", after=0)
    log.add(3, seconds=4000.0)
    log.close()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "distill3r_cli", "train", "--cache", cache, "-o", run]
    more = ["--preset", "tiny", "--device", "cpu", "--max-steps", "1", "--seed", "9", "--overwrite"]
    with subprocess.Popen(
        [*command, *more], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while block := os.read(ours, 4096):
                shown += block
                if b"[y/N]" in shown and answer:
                    os.write(ours, f"{answer}\n".encode())
                    answer, kept = "", answer == "n"
    os.close(ours)
    assert b"1h" in shown or b"66" in shown or b"1.1 h" in shown, shown
    assert process.returncode == (2 if kept else 0), shown
    assert (run / "checkpoints/step-000003").exists() == kept


@pytest.mark.parametrize(
    ("seconds", "more", "asked"),
    [(4000.0, ["--yes"], False), (599.0, [], False), (601.0, [], True)],
)
def test_overwrite_asks_about_more_than_ten_minutes_and_never_with_yes(
    trained, tmp_path, seconds, more, asked
):
    cache, whole, _ = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    log = MetricsLog(run / "metrics.jsonl", after=0)
    log.add(3, seconds=seconds)
    log.close()
    command = ["train", "--cache", str(cache), "-o", str(run), "--preset", "tiny", "--overwrite"]
    status, shown = _at_a_terminal(
        [*command, "--device", "cpu", "--max-steps", "1", "--seed", "9", *more], tmp_path
    )
    assert (b"[y/N]" in shown) == asked, shown
    assert status == (2 if asked else 0), shown
    assert (run / "checkpoints/step-000003").exists() == asked
    assert (run / "checkpoints/step-000001").exists() != asked


def _at_a_terminal(command: list[str], folder: Path) -> tuple[int, bytes]:
    """Status, and what is shown at a terminal where a person answers every question with no."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "distill3r_cli", *command],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, cwd=folder,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown, answered = b"", 0
        with contextlib.suppress(OSError):  # the other end is closed
            while block := os.read(ours, 4096):
                shown += block
                while answered < shown.count(b"[y/N]"):
                    os.write(ours, b"n\n")
                    answered += 1
    os.close(ours)
    return process.returncode, shown


@pytest.mark.parametrize(("seconds", "long"), [(599.9, False), (600.0, False), (600.1, True)])
def test_long_work_is_more_than_ten_minutes(trained, tmp_path, seconds, long):
    run = tmp_path / "run"
    shutil.copytree(trained[1], run, symlinks=True)
    log = MetricsLog(run / "metrics.jsonl", after=0)
    for step in range(1, 4):
        log.add(step, seconds=200.0 if step < 3 else seconds - 400.0)
    log.close()
    found = deletion_of(run)
    assert found is not None
    assert found.is_long == long
