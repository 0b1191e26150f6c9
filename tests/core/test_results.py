"""Results are never lost: done is done, another one next to it, a conflict only by name."""

import json
import os
import signal

import pytest

from distill3r_core import plugins
from distill3r_core.errors import ConflictError, DamageError, UnsafeFileError
from distill3r_core.io.checksums import read_sealed, write_sealed
from distill3r_core.results import RECORD, STARTED, claim, read_record, write_record


def finish(folder, identity):
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, identity=identity, seconds=1.5)


def test_the_same_result_is_said_to_be_finished(tmp_path):
    finish(tmp_path / "a", {"conf": 10})
    found = claim(tmp_path / "a", chosen=None, identity={"conf": 10}, overwrite=False)
    assert (found.folder, found.finished) == (tmp_path / "a", True)


def test_without_a_chosen_folder_another_result_goes_to_the_next_number(tmp_path):
    finish(tmp_path / "a", {"conf": 10})
    finish(tmp_path / "a-2", {"conf": 20})
    found = claim(tmp_path / "a", chosen=None, identity={"conf": 30}, overwrite=False)
    assert (found.folder, found.finished) == (tmp_path / "a-3", False)
    again = claim(tmp_path / "a", chosen=None, identity={"conf": 20}, overwrite=False)
    assert (again.folder, again.finished) == (tmp_path / "a-2", True)


def test_a_chosen_folder_with_another_result_is_a_conflict_that_names_the_difference(tmp_path):
    finish(tmp_path / "a", {"conf": 10})
    with pytest.raises(ConflictError, match="conf: 10 → 20"):
        claim(tmp_path, chosen=tmp_path / "a", identity={"conf": 20}, overwrite=False)
    found = claim(tmp_path, chosen=tmp_path / "a", identity={"conf": 20}, overwrite=True)
    assert not found.finished


def test_a_result_belongs_to_its_plugins(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("")
    plugins.load(mine)
    try:
        finish(tmp_path / "a", {"conf": 10})
        assert read_record(tmp_path / "a")["identity"]["plugins"] == plugins.hashes()
        assert claim(
            tmp_path, chosen=tmp_path / "a", identity={"conf": 10}, overwrite=False
        ).finished
    finally:
        plugins.unload_all()
    with pytest.raises(ConflictError, match=r"plugins: .*mine\.py.* → \(absent\)"):
        claim(tmp_path, chosen=tmp_path / "a", identity={"conf": 10}, overwrite=False)


def test_a_folder_with_other_files_is_never_taken(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ConflictError, match="other files"):
        claim(tmp_path, chosen=tmp_path / "mine", identity={}, overwrite=False)


def test_a_record_keeps_its_facts(tmp_path):
    finish(tmp_path / "a", {"conf": 10})
    assert read_record(tmp_path / "a") == {"identity": {"conf": 10}, "seconds": 1.5}


def test_a_result_that_was_cut_short_is_taken_up_by_the_same_run_only(tmp_path):
    claim(tmp_path / "a", chosen=None, identity={"conf": 10}, overwrite=False)
    (tmp_path / "a" / "scene.ply").write_text("half")
    again = claim(tmp_path / "a", chosen=None, identity={"conf": 10}, overwrite=False)
    assert (again.folder, again.finished) == (tmp_path / "a", False)
    other = claim(tmp_path / "a", chosen=None, identity={"conf": 20}, overwrite=False)
    assert other.folder == tmp_path / "a-2"


def test_a_result_whose_files_were_removed_is_made_again(tmp_path):
    folder = tmp_path / "a"
    (folder / "depth").mkdir(parents=True)
    (folder / "depth" / "0.png").write_bytes(b"png")
    write_record(folder, identity={"conf": 10}, files=["depth/0.png"])
    assert claim(folder, chosen=None, identity={"conf": 10}, overwrite=False).finished
    (folder / "depth" / "0.png").unlink()
    again = claim(folder, chosen=None, identity={"conf": 10}, overwrite=False)
    assert (again.folder, again.finished) == (folder, False)


def test_a_figure_that_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_record(tmp_path, identity={}, seconds=float("nan"))
    assert not any(tmp_path.iterdir())


def test_a_folder_in_which_nothing_but_a_start_was_made_is_free(tmp_path):
    mine = tmp_path / "mine"
    claim(tmp_path, chosen=mine, identity={"conf": 10}, overwrite=False)
    claim(tmp_path, chosen=mine, identity={"conf": 20}, overwrite=False)
    (mine / "scene.ply").write_text("half")
    with pytest.raises(ConflictError, match="conf: 20 → 30"):
        claim(tmp_path, chosen=mine, identity={"conf": 30}, overwrite=False)
    # Of two runs at a time that chose no folder each has its own.
    first = claim(tmp_path / "a", chosen=None, identity={"conf": 10}, overwrite=False)
    second = claim(tmp_path / "a", chosen=None, identity={"conf": 20}, overwrite=False)
    assert first.folder != second.folder


def test_a_record_that_is_no_text_is_another_program_s(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConflictError, match="other files"):
        claim(tmp_path / "a", chosen=tmp_path, identity={}, overwrite=False)


def test_overwriting_unmarks_the_old_result_before_it_is_touched(tmp_path):
    finish(tmp_path / "a", {"conf": 10})
    claim(tmp_path, chosen=tmp_path / "a", identity={"conf": 20}, overwrite=True)
    again = claim(tmp_path, chosen=tmp_path / "a", identity={"conf": 20}, overwrite=False)
    assert not again.finished


def test_an_identity_survives_its_way_through_the_file(tmp_path):
    identity = {"size": (224, 518), "inputs": {"a.jpg": "00ff"}}
    finish(tmp_path / "a", identity)
    assert claim(tmp_path / "a", chosen=None, identity=identity, overwrite=False).finished


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_is_not_a_folder_for_results(tmp_path, below):
    (tmp_path / "scene.ply").write_text("mine")
    with pytest.raises(ConflictError, match=r"scene\.ply is a file"):
        claim(tmp_path, chosen=tmp_path / "scene.ply" / below, identity={}, overwrite=True)


def _another_process_at(folder, identity) -> int:
    ready, answer = os.pipe()
    child = os.fork()
    if child == 0:
        claim(folder, chosen=folder, identity=identity, overwrite=False)
        os.write(answer, b"x")
        signal.pause()
    os.read(ready, 1)
    return child


@pytest.mark.parametrize("identity", [{"conf": 10}, {"conf": 20}])
def test_two_processes_are_not_at_one_result_at_once(tmp_path, identity):
    folder = tmp_path / "a"
    child = _another_process_at(folder, {"conf": 10})
    for overwrite in (False, True):
        with pytest.raises(ConflictError):
            claim(folder, chosen=folder, identity=identity, overwrite=overwrite)
    beside = claim(folder, chosen=None, identity=identity, overwrite=False)
    assert beside.folder == tmp_path / "a-2"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not claim(folder, chosen=folder, identity=identity, overwrite=False).finished
    write_record(folder, identity=identity)
    assert claim(folder, chosen=folder, identity=identity, overwrite=False).finished


@pytest.mark.parametrize("at", [0, 30, -40])
def test_a_damaged_record_of_a_result_is_named(tmp_path, at):
    finish(tmp_path / "a", {"conf": 10, "name": "x" * 20})
    data = bytearray((tmp_path / "a" / RECORD).read_bytes())
    data[at] ^= 1
    (tmp_path / "a" / RECORD).write_bytes(data)
    with pytest.raises(DamageError, match=r"run\.json is damaged"):
        read_record(tmp_path / "a")
    with pytest.raises(ConflictError, match=r"run\.json is damaged"):
        claim(tmp_path, chosen=tmp_path / "a", identity={"conf": 10}, overwrite=False)
    beside = claim(tmp_path / "a", chosen=None, identity={"conf": 10}, overwrite=False)
    assert beside.folder == tmp_path / "a-2"
    assert not claim(
        tmp_path, chosen=tmp_path / "a", identity={"conf": 10}, overwrite=True
    ).finished


@pytest.mark.parametrize("files", [["../x"], ["/etc/passwd"], [3], "abc", {"a": 1}])
def test_a_record_that_names_files_elsewhere_is_refused(tmp_path, files):
    finish(tmp_path / "a", {"conf": 10})
    record = read_sealed(tmp_path / "a" / RECORD)
    write_sealed(tmp_path / "a" / RECORD, record | {"files": files})
    with pytest.raises(DamageError):
        read_record(tmp_path / "a")


def test_a_record_of_an_earlier_version_is_read(tmp_path):
    finish(tmp_path / "a", {"conf": 10})
    record = read_sealed(tmp_path / "a" / RECORD)
    (tmp_path / "a" / RECORD).write_text(json.dumps(record))
    assert claim(tmp_path / "a", chosen=None, identity={"conf": 10}, overwrite=False).finished


def test_the_mark_of_a_begun_result_is_not_written_through_a_link(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "precious").write_text('{"identity": {"conf": 10}}')
    (tmp_path / "a" / STARTED).symlink_to(tmp_path / "precious")
    with pytest.raises(UnsafeFileError):
        claim(tmp_path, chosen=tmp_path / "a", identity={"conf": 10}, overwrite=False)
    assert (tmp_path / "precious").read_text() == '{"identity": {"conf": 10}}'
