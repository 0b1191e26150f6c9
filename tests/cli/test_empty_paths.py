"""`-o "$OUT"` with OUT unset must not write into the current folder."""

import json

import pytest

from distill3r_cli.completions import Node, tree

PATH_OPTIONS = {
    "--output", "--manifest", "--weights", "--picture", "--images", "--cache", "--from",
    "--data", "--model", "--frames", "--config", "-o", "-m",
}  # fmt: skip
NODES = tree().walk()[1:]
OPTIONS = [
    (*node.words, name)
    for node in NODES
    for switch in node.switches
    for name in switch.names
    if name in PATH_OPTIONS
]
ARGUMENTS = [node.words for node in NODES if node.takes_files]


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_no_option_takes_an_empty_path(cli_inprocess, tmp_path, words):
    *command, name = words
    empty = (f"{name}=",) if name.startswith("--") else (name, "")
    status, _, err = cli_inprocess(*command, *empty, *_rest(tuple(command), name), cwd=tmp_path)
    assert status == 2
    assert f"'{words[-1]}'" in err
    assert "it is empty" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ARGUMENTS, ids=" ".join)
def test_no_argument_is_empty(cli_inprocess, tmp_path, words):
    status, _, err = cli_inprocess(*words, "", *_rest(words, "")[1:], cwd=tmp_path)
    assert status == 2
    assert "it is empty" in err
    assert not list(tmp_path.iterdir())


def test_an_error_in_the_command_line_says_whose_it_is(cli_inprocess, tmp_path):
    status, out, _ = cli_inprocess("cache", "info", "", "--json", cwd=tmp_path)
    assert status == 2
    assert json.loads(out)["command"] == "cache info"


def _rest(words: tuple[str, ...], name: str) -> list[str]:
    """What else a command demands before it looks at its options."""
    demanded = {
        ("cache", "merge"): ["part"] if name in ("--output", "-o") else ["part", "-o", "whole"],
        ("convert",): ["in.ckpt", "out.ckpt"],
    }
    node: Node = next(node for node in NODES if node.words == words)
    return demanded.get(words, ["given"] if node.takes_files else [])
