"""`distill3r bench`: time and memory by number of views, and the group of its subcommands."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_cli.built_in_names import listed
from distill3r_cli.commands import bench_cache, bench_train
from distill3r_core.models.presets import PRESETS

bench_app = typer.Typer(
    help="Measure time and memory: of a student, of the cache, of training.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def register(app: typer.Typer) -> None:
    """Add the command and its subcommands."""
    bench_cache.register(bench_app)
    bench_train.register(bench_app)
    app.add_typer(bench_app, name="bench", epilog=EPILOG)


EPILOG = (
    "Examples: distill3r bench --views 12..128  ·  "
    "distill3r bench --views 2,8 --size 224x518 --compare fast3r"
)


@bench_app.callback()
@options.shared(
    rare=(
        "budget",
        "precision",
        "head",
        "seed",
    )
)
def bench(
    context: typer.Context,
    views: Annotated[
        str,
        typer.Option(help="Numbers of views: 12..128 (12, 32, 64, 96, 128), 2..8..2 or 2,8,32."),
    ] = "12..128",
    size: Annotated[
        str,
        typer.Option(
            help="Rows x columns of a view; other models take the nearest multiple of their patch."
        ),
    ] = "378x518",
    preset: Annotated[
        str, typer.Option(help=f"Student with random weights: {listed(tuple(PRESETS))}.")
    ] = "paper",
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", help="Run or file to measure instead of a preset.", show_default=False
        ),
    ] = None,
    compare: Annotated[
        str,
        typer.Option(
            help="Models to compare with, by commas: student-reference, student-compiled, fast3r, "
            "fast3r-reference (as published); or any teacher with its weights: name, hub folder or "
            "file."
        ),
    ] = "",
    budget: Annotated[
        float | None,
        typer.Option(
            help="Seconds for all rows; 300 on a CPU, no limit on a GPU.", show_default=False
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Precision of the models: auto, float32 or bfloat16.")
    ] = "auto",
    head: Annotated[
        str, typer.Option(help="Heads of the student: both, global or local.")
    ] = "both",
    output: options.OutputOpt = None,
    device: options.DeviceOpt = "auto",
    seed: options.SeedOpt = 0,
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Measure time and memory of a student, beside other models, by number of views.

    Each model and number of views runs in a process of its own; models take turns. Rows that do
    not fit into the budget are estimated and marked.
    """
    if options.runs_subcommand(context):
        return
    from distill3r_core.stages.benchmark import BenchSettings, benchmark  # torch: instant --help

    settings = options.settings(context, BenchSettings, section="bench", leave=("overwrite",))
    with console.progress(settings.device) as progress:
        report = benchmark(settings, overwrite=overwrite, progress=progress)
    console.show(report)
