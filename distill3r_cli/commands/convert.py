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
            help="Checkpoint of the original project (.ckpt), weight file (.safetensors) or run "
            "folder.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="File to write: .safetensors, or .ckpt with the original's names.",
            show_default=False,
        ),
    ],
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Turn an original checkpoint into safetensors, or a student back into the original's names."""
    from distill3r_core.stages.convert import convert as run  # torch: keep `--help` instant

    console.show(run(source, target, overwrite=overwrite))
