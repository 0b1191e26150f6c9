"""`distill3r demo`."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_core import paths

_EXAMPLES = """Examples:

distill3r demo

distill3r demo -o demo-3 --seed 3

distill3r demo --scenes lunar -o demo-lunar

distill3r demo --scenes lunar --set "flights=[nadir, pitch, landing]" -o demo-nadir"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", epilog=_EXAMPLES)(demo)


@options.shared(rare=("seed",))
def demo(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for all files.")
    ] = paths.DEMO,
    scenes: Annotated[
        str, typer.Option(help="What is rendered: rooms, or lunar: flights over lunar ground.")
    ] = "rooms",
    seed: options.SeedOpt = 0,
    device: options.DeviceOpt = "auto",
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Run the whole route on rendered scenes: no data, no weights, no network, no GPU.

    At most four minutes on two cores. Prints the command of every step.
    """
    from distill3r_core.stages.demo import DemoSettings  # torch: keep `--help` instant
    from distill3r_core.stages.demo import demo as run_demo

    settings = options.settings(
        context, DemoSettings, section="demo", keys={"scenes": "world"}, leave=("overwrite",)
    )
    with console.progress(settings.device) as progress:
        report = run_demo(settings, overwrite=overwrite, progress=progress)
    console.show(report, passed=report.result["passed"])
