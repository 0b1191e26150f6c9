"""`distill3r convert`: between the original's checkpoints and ours."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "convert",
        epilog="Examples: distill3r convert epoch=59.ckpt student.safetensors  ·  "
        "distill3r convert runs/paper-001 student.ckpt",
    )(convert)


@options.shared(settings=False, plugins=True)
def convert(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A .ckpt of the original, a .safetensors, or a run.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A .safetensors, or a .ckpt.", show_default=False),
    ],
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Turn an original checkpoint into safetensors, or a student back into the original's names."""
    from distill3r_core.stages.convert import convert as run  # torch: keep `--help` instant

    console.show(run(source, target, overwrite=overwrite))
