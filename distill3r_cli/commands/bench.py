"""`distill3r bench`: time and memory by number of views; its siblings stand below it."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_cli.commands import bench_cache, bench_train

bench_app = typer.Typer(
    help="Measure time and memory: of a student, of the cache, of training.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def register(app: typer.Typer) -> None:
    """Add the command and those below it."""
    bench_cache.register(bench_app)
    bench_train.register(bench_app)
    app.add_typer(bench_app, name="bench", epilog=EPILOG)


EPILOG = (
    "Examples: distill3r bench --views 12..128  ·  "
    "distill3r bench --views 2,8 --size 224x518 --compare fast3r"
)


@bench_app.callback()
@options.shared()
def bench(
    context: typer.Context,
    views: Annotated[
        str,
        typer.Option(
            help="A..B: the paper's points 12, 32, 64, 96, 128 in it; A..B..S: steps; 2,8,32."
        ),
    ] = "12..128",
    size: Annotated[
        str,
        typer.Option(help="Rows x columns of the student's views; a teacher's are the nearest."),
    ] = "378x518",
    preset: Annotated[
        str, typer.Option(help="Student with random weights: paper, small or tiny.")
    ] = "paper",
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="A run or a file instead.", show_default=False),
    ] = None,
    compare: Annotated[
        str,
        typer.Option(
            help="Measure these in turns with it: fast3r, fast3r-reference (as published), "
            "student-reference, student-compiled."
        ),
    ] = "",
    budget: Annotated[
        float | None,
        typer.Option(help="Seconds in all; 300 on a CPU, no end on a GPU.", show_default=False),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    head: Annotated[str, typer.Option(help="Of the student: both, global or local.")] = "both",
    output: options.OutputOpt = None,
    device: options.DeviceOpt = "auto",
    seed: options.SeedOpt = 0,
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Measure the forward of a student, beside its teacher's, by number of views.

    Each model and number of views gets a process of its own; models take turns. Rows that the
    budget has no time for are estimated and marked so.
    """
    if options.left_to_sibling(context):
        return
    from distill3r_core.stages.benchmark import BenchSettings, benchmark  # torch: instant --help

    settings = options.settings(context, BenchSettings, section="bench", leave=("overwrite",))
    with console.progress(settings.device) as progress:
        report = benchmark(settings, overwrite=overwrite, progress=progress)
    console.show(report)
