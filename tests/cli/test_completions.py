"""The completion scripts are those of this program, and a real shell takes them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from distill3r_cli import built_in_names, completions
from distill3r_core.data.layouts import LAYOUTS
from distill3r_core.models.presets import PRESETS
from distill3r_core.teachers.registry import AUTOMATIC, TEACHERS

FOLDER = Path(completions.__file__).parents[1] / "completions"
SCENE = {"scene-cnn", "scene-mobilenet", "scene-vit"}
CASES = [
    ("distill3r man", {"manifest"}),
    ("distill3r bench ca", {"cache"}),
    ("distill3r train --preset ", set(PRESETS)),
    ("distill3r train --preset s", {"small", *SCENE}),
    ("distill3r infer --no-", {"--no-color", "--no-refine"}),
    ("distill3r bench cache --print", {"--print-config"}),
    ("distill3r --ver", {"--version"}),
    ("distill3r models --help-", {"--help-all"}),
    ("distill3r models list --help-", {"--help-all"}),
    ("distill3r cache --help-", {"--help-all"}),
]


@pytest.mark.parametrize("shell", completions.FILES)
def test_a_script_is_not_stale(shell):
    stored = (FOLDER / completions.FILES[shell]).read_text(encoding="utf-8")
    assert stored == completions.script(shell), (
        "the command line has changed: run `python -m distill3r_cli.completions`"
    )


def test_values_are_those_that_the_core_knows():
    assert set(completions.VALUES["--preset"]) == set(PRESETS)
    assert set(completions.VALUES["--layout"]) == {"auto", *LAYOUTS}
    assert set(completions.VALUES["--teacher"]) == {"auto", *TEACHERS}


def test_names_in_help_are_those_of_the_registries():
    assert set(built_in_names.LAYOUTS) == set(LAYOUTS)
    assert set(built_in_names.TEACHERS) == set(TEACHERS)
    assert tuple(record.name for record in AUTOMATIC) == built_in_names.AUTOMATIC_TEACHERS


def test_every_option_with_known_values_exists():
    names = {n for node in completions.tree().walk() for s in node.switches for n in s.names}
    assert set(completions.VALUES) <= names


@pytest.mark.parametrize(("line", "offered"), CASES)
def test_bash_offers_what_may_follow(line, offered):
    words = line.split(" ")
    script = (
        f"source {FOLDER / completions.FILES['bash']}\n"
        f"COMP_WORDS=({' '.join(word or repr('') for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        'complete -p distill3r >/dev/null && _distill3r && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert set(_output("bash", "--norc", "-c", script)) == offered


def test_bash_offers_files_where_a_path_is_wanted():
    script = (
        f"source {FOLDER / completions.FILES['bash']}\n"
        "COMP_WORDS=(distill3r infer -o '')\nCOMP_CWORD=3\n"
        '_distill3r; echo "${#COMPREPLY[@]}"; complete -p distill3r'
    )
    count, registered = _output("bash", "--norc", "-c", script)
    assert count == "0"
    assert "-o default" in registered  # nothing of ours: readline's file names


@pytest.mark.parametrize(("line", "offered"), CASES)
def test_fish_offers_what_may_follow(line, offered):
    script = f"source {FOLDER / completions.FILES['fish']}; complete -C '{line}'"
    lines = _output("fish", "--no-config", "-c", script)
    assert {text.split("\t")[0] for text in lines} == offered


def test_zsh_reads_its_script():
    assert _output("zsh", "-f", "-n", str(FOLDER / completions.FILES["zsh"])) == []


def _output(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert not done.stderr
    return done.stdout.splitlines()
