"""Every command that README and docs name is one: its options exist and take such values."""

import shlex
from pathlib import Path

import pytest
import typer
from page_commands import PAGES, commands_of

from distill3r_cli.app import app
from distill3r_core.stages.demo.demo_steps import DemoSettings, steps_of

# typer does not export the class itself
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


def parse(arguments: list[str]) -> None:
    """Read a command line as the program does, and do nothing.

    Raises:
        USAGE_ERROR: It is none.
    """
    command, name = typer.main.get_command(app), "distill3r"
    while arguments and arguments[0] in (commands := getattr(command, "commands", {})):
        name, *arguments = arguments
        command = commands[name]
    try:
        command.make_context(name, arguments)
    except typer.Exit:
        return  # `--help`


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_one(page: Path) -> None:
    refused = []
    for number, line, typed in commands_of(page):
        try:
            parse(shlex.split(line))
        except USAGE_ERROR as error:
            # In a sentence the name of a command may stand without its arguments.
            if typed or type(error).__name__ != "MissingParameter":
                refused.append(f"{page.name}:{number}: {line}: {error}")
    assert not refused, "\n".join(refused)


def test_the_pages_hold_commands() -> None:
    assert sum(1 for page in PAGES for _ in commands_of(page)) > 80
    with pytest.raises(USAGE_ERROR, match="no-such"):
        parse(["train", "--no-such-option"])


def test_readme_shows_the_commands_that_the_demo_prints() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = [line.removeprefix("$ ") for line in readme.splitlines() if line.startswith("$ ")]
    printed = [step.command for step in steps_of(DemoSettings())]
    assert shown == printed
