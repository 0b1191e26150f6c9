"""What a script can rely on, whatever the command: streams, JSON, statuses."""

import io
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import typer
from PIL import Image
from rich.console import Console

from distill3r_cli import console, exits, options, run
from distill3r_cli.printed_lines import print_line
from distill3r_cli.progress import PlainProgress
from distill3r_core import errors
from distill3r_core.report import Failure, Report, Table


@pytest.fixture
def say(capsys):
    """Show a report with the given flags; gives (status, stdout, stderr)."""

    def call(report, **flags):
        console.begin("infer", **flags)
        status = exits.OK
        try:
            console.show(report)
        except typer.Exit as stop:
            status = stop.exit_code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


REPORT = Report(
    settings={"conf": 10.0},
    result={"points": 7},
    files=[Path("results/infer/desk/scene.ply")],
    tables=[Table("points [kept]", ("file", "points"), (("scene.ply", "7"),))],
    notes=["scale: relative"],
)
PARTIAL = Report(settings={}, result={}, failed=[Failure("a [1].jpg", "truncated")])


def test_results_go_to_stdout_and_all_else_to_stderr(say):
    status, out, err = say(REPORT)
    assert status == exits.OK
    assert "scene.ply" in out
    assert "points [kept]" in out  # a bracket in a name is not markup
    assert "scale: relative" not in out
    assert "scale: relative" in err


def test_quiet_keeps_results_and_failures(say):
    assert say(REPORT, quiet=True)[2] == ""
    status, _, err = say(PARTIAL, quiet=True)
    assert status == exits.PARTIAL
    assert "a [1].jpg: truncated" in err


def test_json_is_one_object_with_the_keys_of_the_contract(say):
    status, out, err = say(PARTIAL, as_json=True)
    shown = json.loads(out)
    keys = ("command", "version", "settings", "machine", "result", "files", "failed", "error")
    assert tuple(shown) == keys
    assert shown["command"] == "infer"
    assert shown["failed"] == [{"item": "a [1].jpg", "reason": "truncated"}]
    assert (status, err) == (exits.PARTIAL, "")


def test_json_of_a_command_is_told_once(say, capsys):
    _, out, _ = say(REPORT, as_json=True)
    json.loads(out)
    console.show_interrupted(exits.INTERRUPTED, [])  # as of a viewer that is ended
    assert capsys.readouterr().out == ""


def test_an_interrupt_while_torch_is_loading_is_json_too(monkeypatch, capsys):
    half_loaded = types.ModuleType("distill3r_core.profiling")
    monkeypatch.setitem(sys.modules, "distill3r_core.profiling", half_loaded)
    console.expect(["--json"], command="infer")
    assert console.show_interrupted(exits.INTERRUPTED, []) == exits.INTERRUPTED
    shown = json.loads(capsys.readouterr().out)
    assert shown["machine"] is None and shown["error"]["message"] == "interrupted"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 99 bytes"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_is_full_anywhere_is_no_fault_of_the_program(error):
    assert run._as_error(error).__class__ is errors.OutOfMemoryError
    for fault in (RuntimeError("odd"), ImportError("no module called odd")):
        assert run._as_error(fault).__class__ is errors.FailedError


def test_plain_progress_tells_the_time_that_is_left(capsys, monkeypatch):
    now = iter([0.0, *[10.0] * 3, *[40.0] * 3])
    monkeypatch.setattr("distill3r_cli.progress.time.monotonic", lambda: next(now))
    console.begin("eval")
    with console.progress("cpu") as progress:
        progress.begin("score", total=4, unit="maps")
        progress.advance()
        progress.advance(3)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "score 1/4 maps · 0.1 maps/s · 30 s left"
    assert last == "score 4/4 maps · 0.1 maps/s"


def test_ranks_other_than_zero_are_silent(say, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert say(REPORT) == (exits.OK, "", "")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NothingUsableError("x"), 1),
        (errors.DamageError("x"), 1),
        (errors.ConfigError("x"), 2),
        (errors.ConflictError("x"), 2),
        (errors.InputMissingError("x"), 3),
        (errors.WeightsError("x"), 3),
        (errors.ExtraMissingError("x"), 3),
        (errors.DeviceError("x"), 3),
        (errors.OutOfMemoryError("x"), 4),
        (errors.DiskFullError("x"), 4),
    ],
)
def test_each_kind_of_error_has_its_status(error, status):
    assert exits.status_of(error) == status


def test_an_error_says_what_and_then_the_way_out(capsys):
    console.begin("cache")
    error = errors.WeightsError("fast3r has no weights in [here]", hint="distill3r models path")
    assert console.show_error(error, 3) == 3
    err = capsys.readouterr().err
    assert err == ("error: fast3r has no weights in [here]\nhint: distill3r models path\n")


def test_a_usage_error_is_an_object_with_json(cli_inprocess, tmp_path):
    status, out, _ = cli_inprocess("doctor", "--nope", "--json", cwd=tmp_path)
    assert status == exits.REQUEST
    assert "--nope" in json.loads(out)["error"]["message"]


def test_a_dropped_option_is_an_object_with_json(cli_inprocess, tmp_path):
    status, out, _ = cli_inprocess("cache", "--resume", "info", "x", "--json", cwd=tmp_path)
    assert status == exits.REQUEST
    assert "--resume" in json.loads(out)["error"]["message"]


def test_an_unknown_command_suggests_the_near_one(cli_inprocess, tmp_path):
    status, _, err = cli_inprocess("manifst", cwd=tmp_path)
    assert status == exits.REQUEST
    assert "manifest" in err


def test_a_place_that_cannot_be_written_is_named(cli_inprocess, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (320, 240)).save(tmp_path / "photos" / "a.png")
    Image.new("RGB", (320, 240)).save(tmp_path / "photos" / "b.png")
    status, _, err = cli_inprocess("manifest", "photos", "-o", "/proc/nope", cwd=tmp_path)
    assert status == exits.REQUEST
    assert "/proc/nope" in err
    assert "fault in distill3r" not in err


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("doctor --help >&-", exits.OK),
        ("manifest nowhere-ü --json >&-", exits.MISSING),
        ("manifest nowhere-ü", exits.MISSING),
        ("manifest p --seed -1", exits.REQUEST),
        ("manifest p --seed 99999999999999999999999", exits.REQUEST),
    ],
)
def test_closed_and_narrow_streams_change_no_status(tmp_path, line, status):
    done = subprocess.run(
        f"{sys.executable} -m distill3r_cli {line}",
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr


def run_into(stdout, command, folder):
    """The real command line, writing into a file of ours."""
    return subprocess.run(
        [sys.executable, "-m", "distill3r_cli", *command.split()],
        cwd=folder,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["models list", "models list --json", "doctor"])
def test_a_reader_that_goes_away_changes_no_status(tmp_path, command):
    reading, writing = os.pipe()
    os.close(reading)
    done = run_into(writing, command, tmp_path)
    os.close(writing)
    assert done.returncode == exits.OK, done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


@pytest.mark.parametrize("command", ["models list", "models list --json"])
def test_a_full_disk_under_stdout_is_said_on_stderr(tmp_path, command):
    with Path("/dev/full").open("w") as full:
        done = run_into(full, command, tmp_path)
    assert done.returncode == exits.RESOURCE, done.stderr
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def group():
    """A command with a sibling below it, like `cache` and `cache info`."""
    tree = typer.Typer()
    said = []

    @tree.callback(invoke_without_command=True)
    @options.shared()
    def cache(context: typer.Context, resume: options.ResumeOpt = False) -> None:
        if not options.runs_subcommand(context):
            said.append(("cache", resume))

    @tree.command()
    def info() -> None:
        said.append("info")

    return tree, said


def test_an_option_before_a_siblings_name_is_refused_and_not_dropped(group):
    tree, said = group
    tree(["info"], standalone_mode=False)
    tree(["--resume"], standalone_mode=False)
    assert said == ["info", ("cache", True)]
    with pytest.raises(typer.BadParameter, match="--resume"):
        tree(["--resume", "info"], standalone_mode=False)
    with pytest.raises(typer.BadParameter, match="--json"):
        tree(["--json", "info"], standalone_mode=False)


def test_what_an_earlier_run_did_says_nothing_of_the_speed():
    said = io.StringIO()
    shown = PlainProgress(Console(file=said, width=200))
    shown.begin("train", total=10_000, unit="steps", done=5000)
    time.sleep(0.2)
    shown.advance(2)
    shown.finish()
    count, rate, left = said.getvalue().split(" · ")
    assert count == "train 5002/10000 steps"
    assert 1 < float(rate.split()[0]) <= 10
    assert left.strip().endswith("left")


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_break_between_words_on_a_terminal_alone(terminal):
    file = io.StringIO()
    console = Console(file=file, width=20, force_terminal=terminal, no_color=True)
    print_line(console, "one two three four five six")
    print_line(console, "next: distill3r train --resume")
    shown = [line.rstrip() for line in file.getvalue().splitlines()]
    whole = "one two three four five six"
    assert shown[:-1] == (["one two three four", "five six"] if terminal else [whole])
    assert shown[-1] == "next: distill3r train --resume"
