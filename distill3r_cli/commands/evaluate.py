"""`distill3r eval`: the point maps of models against ground truth."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "eval",
        epilog="Examples: distill3r eval  ·  "
        "distill3r eval runs/small-001 runs/small-002 --data 7scenes  ·  "
        "distill3r eval --data 7scenes --predict constant",
    )(evaluate)


@options.shared()
def evaluate(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Runs, weight files or names of models, the first compared with the others; "
            "the newest run.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data set with ground truth; the run's own validation samples.",
            show_default=False,
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of the data set.")] = "auto",
    protocol: Annotated[str, typer.Option(help="Frames, alignment and metrics.")] = "table2",
    predict: Annotated[
        str,
        typer.Option(help="student; or truth (zeros, scale 1) and constant (a plane): no MODEL."),
    ] = "student",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            show_default="the run's, else the protocol's",
            help="Grid of truth or constant without a MODEL, which brings its own.",
        ),
    ] = None,
    output: options.OutputOpt = None,
    device: options.DeviceOpt = "auto",
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Score the point maps of models: accuracy, completeness and scale, beside baselines."""
    from distill3r_core.stages.evaluate import EvalSettings, evaluate  # torch: instant --help

    settings = options.settings(context, EvalSettings, section="eval", leave=("overwrite",))
    with console.progress(settings.device) as progress:
        report = evaluate(settings, overwrite=overwrite, progress=progress)
    console.show(report)
