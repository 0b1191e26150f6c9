"""The command tree."""

from typing import Annotated

import typer

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

app = typer.Typer(
    name="distill3r",
    help="Turn a giant 3D foundation model into a small, fast one, and use it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="First steps: distill3r demo  ·  distill3r infer PHOTOS --ply  ·  distill3r doctor",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"distill3r {metadata.version('distill3r')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


for command in (
    demo,
    infer,
    view,
    doctor,
    manifest,
    cache,
    train,
    evaluate,
    bench,
    models,
    convert,
):
    command.register(app)

# Typer lists groups after commands; panels put both in the order of use.
_PANELS = {
    "Try": ("demo", "infer", "view", "doctor"),
    "Build": ("manifest", "cache", "train"),
    "Measure": ("eval", "bench"),
    "Weights": ("models", "convert"),
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names}
for entry in (*app.registered_commands, *app.registered_groups):
    entry.rich_help_panel = _PANEL_OF[entry.name or getattr(entry.callback, "__name__", "")]
