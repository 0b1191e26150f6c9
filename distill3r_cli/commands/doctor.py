"""`distill3r doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, exits, options


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "doctor",
        epilog="Examples: distill3r doctor  ·  distill3r doctor /mnt/big --json",
    )(doctor)


@options.shared(settings=False)
def doctor(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder for results.")] = Path(),
) -> None:
    """Check this machine: what it has, what it lacks, and what it is ready for."""
    from distill3r_core.stages.doctor import doctor as run_checks  # torch: keep `--help` instant

    report = run_checks(folder)
    console.show(report)
    if not report.result["ok"]:
        raise typer.Exit(exits.FAILED)
