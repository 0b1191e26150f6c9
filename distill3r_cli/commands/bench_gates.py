"""`distill3r bench gates`."""

from typing import Annotated

import typer

from distill3r_cli import console, options


def register(bench_app: typer.Typer) -> None:
    """Add the command to `bench`."""
    bench_app.command(
        "gates",
        epilog="Examples: distill3r bench gates  ·  "
        "distill3r bench gates --device cpu --preset tiny --size 28x42 --views 2,4 --many 8",
    )(bench_gates)


@options.shared()
def bench_gates(
    context: typer.Context,
    views: Annotated[str, typer.Option(help="Beside the teacher: A..B, A..B..S or 2,8.")] = (
        "12..128"
    ),
    many: Annotated[int, typer.Option(help="Views of the student alone.")] = 1000,
    size: Annotated[str, typer.Option(help="Rows x columns of the student's views.")] = "378x518",
    preset: Annotated[str, typer.Option(help="Student: paper, small or tiny.")] = "paper",
    compare: Annotated[str, typer.Option(help="Models beside the student.")] = (
        "fast3r-reference,fast3r,student-reference"
    ),
    runs: Annotated[
        int | None, typer.Option(help="Timed runs beside the teacher.", show_default=False)
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Seconds of each measurement; 300 on a CPU, no end on a GPU.", show_default=False
        ),
    ] = None,
    output: options.OutputOpt = None,
    device: options.DeviceOpt = "auto",
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Hold a GPU to the project's promises: time against the teacher, memory, views."""
    from distill3r_core.stages.benchmark.gates import GateSettings, measure_gates

    settings = options.settings(context, GateSettings, section="bench_gates", leave=("overwrite",))
    with console.progress(settings.device) as progress:
        report = measure_gates(settings, overwrite=overwrite, progress=progress)
    console.show(report)
