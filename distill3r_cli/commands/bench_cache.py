"""`distill3r bench cache`."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options


def register(bench_app: typer.Typer) -> None:
    """Add the command to `bench`."""
    bench_app.command(
        "cache",
        epilog="Examples: distill3r bench cache --frames data/7scenes  ·  "
        "distill3r bench cache --frames data/7scenes --json",
    )(bench_cache)


@options.shared()
def bench_cache(
    context: typer.Context,
    frames: Annotated[
        Path, typer.Option(help="Folder of RGB-D frames (7-Scenes), searched recursively.")
    ],
    views: Annotated[int, typer.Option(help="Views per sample.")] = 20,
    samples: Annotated[int, typer.Option(help="Number of samples.")] = 3,
    rounds: Annotated[int, typer.Option(help="Rounds of every measurement.")] = 5,
    workers: Annotated[int, typer.Option(help="Loader processes or threads.")] = 2,
    output: options.OutputOpt = None,
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Measure the teacher cache against the original project's format: bytes, time, memory."""
    from distill3r_core.benchmarks.cache import BenchCacheSettings  # torch: keep `--help` instant
    from distill3r_core.benchmarks.cache import bench_cache as measure

    settings = options.settings(
        context, BenchCacheSettings, section="bench_cache", leave=("overwrite",)
    )
    with console.progress("cpu") as progress:
        report = measure(settings, overwrite=overwrite, progress=progress)
    console.show(report)
