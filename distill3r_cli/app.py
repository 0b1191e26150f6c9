"""The command tree."""

import inspect
from typing import Annotated

import typer
from typer.core import TyperGroup

from distill3r_cli.commands import (
    bench,
    cache,
    convert,
    demo,
    doctor,
    evaluate,
    infer,
    manifest,
    models,
    train,
    view,
)

# Panels of the help, and the commands in them, in the order of the work.
_PANELS = {
    "Start": ("doctor", "demo", "models"),
    "Build a student": ("manifest", "cache", "train"),
    "Use it": ("infer", "view", "convert"),
    "Measure it": ("eval", "bench"),
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names}


class _CommandsInOrder(TyperGroup):
    """The commands in the order of the panels: typer lists groups after all others."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(_PANEL_OF)


app = typer.Typer(
    name="distill3r",
    cls=_CommandsInOrder,
    help="Turn a giant 3D foundation model into a small, fast one, and use it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="First steps, in an empty folder: distill3r doctor  ·  distill3r demo",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"distill3r {metadata.version('distill3r')}")
        raise typer.Exit


def _print_help(context: typer.Context, wanted: bool) -> None:
    if wanted:  # it leaves nothing out
        typer.echo(context.get_help())
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    help_all: Annotated[
        bool,
        typer.Option(
            "--help-all", is_eager=True, callback=_print_help, help="Show all options and exit."
        ),
    ] = False,
) -> None:
    pass


for command in (
    doctor,
    demo,
    models,
    manifest,
    cache,
    train,
    infer,
    view,
    convert,
    evaluate,
    bench,
):
    command.register(app)

for entry in (*app.registered_commands, *app.registered_groups):
    entry.rich_help_panel = _PANEL_OF[entry.name or getattr(entry.callback, "__name__", "")]


def _flow_help(tree: typer.Typer) -> None:
    """Let paragraphs of help fill the terminal, not the lines of the source."""
    for entry in tree.registered_commands:
        paragraphs = (inspect.getdoc(entry.callback) or "").split("\n\n")
        entry.help = "\n\n".join(" ".join(text.split()) for text in paragraphs)
    for group in tree.registered_groups:
        if group.typer_instance is not None:
            _flow_help(group.typer_instance)


_flow_help(app)
