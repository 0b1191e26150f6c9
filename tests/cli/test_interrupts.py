"""Ctrl-C at any moment ends with 130 and no traceback."""

import json
import signal
import subprocess
import sys
import time

import pytest
from trees import save_picture

from distill3r_cli import interrupts

_OURS = "| distill3r_cli\n"  # as -X importtime tells that the package is there; `signal` is next


@pytest.mark.parametrize("imports", [2, 3, 5, 20, 60, 150, 300, 600, 1200])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_modules_are_imported_shows_none_of_them(tmp_path, imports, number):
    command = (sys.executable, "-X", "importtime", "-m", "distill3r_cli", "doctor")
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().endswith(_OURS):
            assert process.poll() is None
        for _ in range(imports):
            process.stderr.readline()
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said


class _Falls:
    """Whose end meets the interrupt, as a callback of the import system may."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        if self.number is None:
            raise ValueError("told")
        signal.raise_signal(self.number)


def test_an_interrupt_that_python_ignores_is_not_told_and_not_lost(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: told.append(ignored.exc_type))
    before, hook = [signal.getsignal(number) for number in (2, 15)], sys.unraisablehook
    try:
        with interrupts.raised_as_exceptions():
            _Falls(None)
            _Falls(signal.SIGTERM)
            assert told == [ValueError]
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert sys.unraisablehook is hook


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("manifest", "photos"), "the same command continues where it stopped\n"),
        (("demo", "--overwrite"), "continues where it stopped; leave --overwrite out"),
        (("cache",), "the same command with --resume continues"),
        (("infer", "photos"), None),
    ],
)
def test_an_interrupted_command_says_how_to_go_on_where_it_can(
    cli_inprocess, tmp_path, monkeypatch, arguments, hint
):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("distill3r_cli.console.progress", stopped)
    status, _, err = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 130
    assert err.startswith("error: interrupted\n")
    assert (hint in err) if hint else ("hint" not in err)


def test_an_interrupt_that_a_library_made_its_own_error_of_is_one(
    cli_inprocess, tmp_path, monkeypatch
):
    def import_numpy():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise AttributeError("numpy._core has no attribute '_multiarray_umath'") from error

    monkeypatch.setattr("distill3r_cli.run.app", lambda *_, **__: import_numpy())
    status, _, err = cli_inprocess("doctor", cwd=tmp_path)
    assert status == 130
    assert err == "error: interrupted\n"


@pytest.mark.parametrize("gap", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("numbers", [(2, 2), (15, 2)])
def test_a_second_interrupt_while_the_first_is_told_changes_nothing(tmp_path, gap, numbers):
    for number in range(40):
        save_picture(tmp_path / "photos" / f"{number}.png", number, (300, 400))
    command = (sys.executable, "-m", "distill3r_cli", "manifest", "photos", "--json")
    memory = tmp_path / "data" / ".frames.jsonl"
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (memory.is_file() and memory.read_bytes().count(b"\n") > 2):
            assert process.poll() is None
            time.sleep(0.002)
        for number in numbers:
            process.send_signal(number)
            time.sleep(gap)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert json.loads(out)["error"]["message"] == "interrupted"
