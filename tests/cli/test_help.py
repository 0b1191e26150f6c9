"""Help is instant, complete, and loads nothing heavy."""

import json
import os
import subprocess
import sys

import pytest

from distill3r_cli.completions import Node, tree

HEAVY = ("torch", "timm", "numpy", "scipy", "PIL", "lmdb", "trimesh")
START_UP = 0.5  # seconds
OVER_TYPER = 2.5  # of what importing typer alone takes; 1.7 on an idle machine
SIX = {"manifest", "cache", "train", "eval", "infer", "bench"}
COMMANDS = tree().walk()[1:]
DISPLAY = {"-h", "--help", "-q", "--quiet", "-v", "--verbose", "--debug", "--no-color", "--json"}
SETTINGS = {"--config", "--set", "--print-config"}

_ALL_HELP = """
import json, sys, contextlib, io
from distill3r_cli.run import run
found = {}
for words in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run([*words, "-h"])
    found[" ".join(words)] = [status, out.getvalue()]
print(json.dumps({"found": found, "loaded": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def every_help():
    words = [[], *[list(node.words) for node in COMMANDS]]
    done = subprocess.run(
        [sys.executable, "-c", _ALL_HELP, json.dumps(words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    return json.loads(done.stdout)


def test_no_help_loads_anything_heavy(every_help):
    assert not set(HEAVY) & set(every_help["loaded"])


def test_the_six_and_the_helpers_are_there():
    names = {node.words[0] for node in COMMANDS}
    assert names >= SIX | {"demo", "doctor", "models", "view", "convert"}


@pytest.mark.parametrize("node", COMMANDS, ids=lambda node: " ".join(node.words))
def test_a_command_explains_itself_and_gives_two_examples(every_help, node):
    status, text = every_help["found"][" ".join(node.words)]
    assert status == 0
    assert node.help
    if not node.children:
        command = " ".join(("distill3r", *node.words))
        assert text.count(command) >= 3  # usage and two examples
    undocumented = [s.names for s in node.switches if not s.help]
    assert not undocumented


@pytest.mark.parametrize("node", COMMANDS, ids=lambda node: " ".join(node.words))
def test_a_command_takes_the_shared_options(node):
    if node.children and node.words[0] not in SIX:
        return  # a group that does nothing itself
    assert _options(node) >= DISPLAY
    if len(node.words) == 1 and node.words[0] in SIX | {"demo"}:
        assert _options(node) >= SETTINGS


LEAVES = [node for node in COMMANDS if not node.children or node.words[0] in SIX]


@pytest.mark.parametrize("node", LEAVES, ids=lambda node: " ".join(node.words))
def test_all_options_are_behind_help_all(cli_inprocess, tmp_path, monkeypatch, node):
    monkeypatch.setenv("COLUMNS", "200")
    status, whole, _ = cli_inprocess(*node.words, "--help-all", cwd=tmp_path)
    assert status == 0
    names = {switch.names[0] for switch in node.switches}
    assert not [name for name in names if f"{name} " not in whole and name != "-h"]
    _, short, _ = cli_inprocess(*node.words, "--help", cwd=tmp_path)
    assert "--help-all" in short
    assert "--debug " in whole
    assert "--debug " not in short
    assert len(short.splitlines()) < len(whole.splitlines())


@pytest.mark.parametrize("node", [node for node in COMMANDS if node not in LEAVES])
def test_groups_of_commands_know_help_all_as_well(cli_inprocess, tmp_path, node):
    status, out, err = cli_inprocess(*node.words, "--help-all", cwd=tmp_path)
    assert status == 0, err
    assert all(f" {child.words[-1]} " in out for child in node.children)


def test_the_program_itself_knows_help_all(cli_inprocess, tmp_path):
    status, out, err = cli_inprocess("--help-all", cwd=tmp_path)
    assert status == 0, err
    assert out.split() == cli_inprocess("--help", cwd=tmp_path)[1].split()


def test_groups_stand_in_the_order_of_the_work(cli_inprocess, tmp_path):
    _, text, _ = cli_inprocess("--help", cwd=tmp_path)
    groups = ["Start", "Build a student", "Use it", "Measure it"]
    places = [text.index(f"─ {group} ─") for group in groups]
    assert places == sorted(places)
    commands = ["doctor", "demo", "models", "manifest", "cache", "train", "infer", "eval", "bench"]
    places = [text.index(f"│ {command} ") for command in commands]
    assert places == sorted(places)
    assert "First steps, in an empty folder: distill3r doctor" in " ".join(text.split())


def test_help_starts_in_half_a_second(tmp_path, monkeypatch):
    # With bytecode, as every start of an installed program but the first: some machines forbid
    # to write it, and compile all modules each time.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "bytecode"))
    bare = [sys.executable, "-c", "import typer.rich_utils"]
    program = [sys.executable, "-m", "distill3r_cli", "--help"]
    # Seconds of the CPU, in turns, the best of five: a busy machine must not fail this. Nor must a
    # slow one: where typer alone takes longer, the program may, too.
    seconds = [[_cpu_seconds(one, tmp_path) for one in (bare, program)] for _ in range(6)]
    typer_alone, whole = (min(column) for column in zip(*seconds[1:], strict=True))
    assert whole < max(START_UP, OVER_TYPER * typer_alone)


def test_bare_distill3r_prints_help_and_leaves_with_2(cli, tmp_path):
    done = cli(cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage: distill3r" in done.stdout


def _options(node: Node) -> set[str]:
    return {name for switch in node.switches for name in switch.names}


def _cpu_seconds(command: list[str], cwd: os.PathLike[str]) -> float:
    before = os.times()
    subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = os.times()
    return (
        after.children_user
        + after.children_system
        - (before.children_user + before.children_system)
    )
