"""Names from files never reach a terminal, a log or a page as control characters."""

import json

import pytest

from distill3r_core.report import Failure, Silent, failure_lines
from distill3r_core.stages.train.train_report import LoggedProgress
from distill3r_core.untrusted.printable import printable, printable_json, printable_name

HOSTILE = [
    ("\x1b[2Jcleared", "\\x1b[2Jcleared"),
    ("\x9b31mred", "\\x9b31mred"),
    ("a\rb\x08c\x07", "a\\rb\\x08c\\x07"),
    ("gpj.\u202eexe", "gpj.\\u202eexe"),
    ("half\ud800", "half\\ud800"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_control_characters_are_escaped(text, shown) -> None:
    assert printable(text) == printable_name(text) == shown
    assert printable(shown).encode()


def test_plain_text_stays_as_it_is() -> None:
    text = "写真 é 🙂 [bold] a\\b, the first line\n  and the second\t!"
    assert printable(text) == text
    assert printable_name("a\nb") == "a\\nb"


@pytest.mark.parametrize("text", [text for text, _ in HOSTILE])
def test_json_says_the_same_without_a_control_character(text) -> None:
    shown = printable_json(json.dumps({text: text}, ensure_ascii=False, indent=2))
    assert json.loads(shown) == {text: text}
    assert printable(shown) == shown


@pytest.mark.parametrize("text", [text for text, _ in HOSTILE])
def test_lists_of_failures_and_logs_have_one_line_for_each(tmp_path, text) -> None:
    (line,) = failure_lines([Failure(f"a\n{text}", "unreadable")])
    assert printable_name(line) == line
    with LoggedProgress(Silent()) as log:
        log.keep(tmp_path / "log.txt")
        log.note(text)
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert printable_name(line) == line
