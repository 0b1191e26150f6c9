"""`distill3r view`: a result of infer in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options

_EXAMPLES = """Examples:

distill3r view results/infer/desk-small-001

distill3r view desk --port 9000"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("view", epilog=_EXAMPLES)(view)


@options.shared(settings=False)
def view(
    context: typer.Context,
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="A folder that `infer` wrote, with a PLY.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default this machine alone can connect.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="First port to try.")] = 8080,
) -> None:
    """Serve a reconstruction to the browser until Ctrl-C (extra viewer)."""
    from distill3r_core.stages.view import view as serve

    serve(result, host=host, port=port, on_ready=console.show)
