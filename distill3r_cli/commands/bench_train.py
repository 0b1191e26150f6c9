"""`distill3r bench train` and `bench ablation`: cost of a training step, comparison of losses."""

from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_cli.built_in_names import listed
from distill3r_core.models.presets import PRESETS


def register(bench_app: typer.Typer) -> None:
    """Add the commands to the group."""
    bench_app.command("train", epilog=_TRAIN_EXAMPLES)(train)
    bench_app.command("ablation", epilog=_ABLATION_EXAMPLES)(ablation)


_TRAIN_EXAMPLES = """Examples:

distill3r bench train --json

distill3r bench train --preset paper --batch 4 --views 20 --recompute heads --compare none"""

_ABLATION_EXAMPLES = """Examples:

distill3r bench ablation

distill3r bench ablation --study pairs --seeds 1

distill3r bench ablation --seeds 5 --steps 1000 -o results/bench/ablation-long"""


@options.shared()
def train(
    context: typer.Context,
    preset: Annotated[str, typer.Option(help=f"Student: {listed(tuple(PRESETS))}.")] = "small",
    batch: Annotated[int, typer.Option(help="Samples per step.")] = 4,
    views: Annotated[int, typer.Option(help="Views per sample.")] = 8,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", show_default="the preset's", help="Rows x columns of a view."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Timed steps of each loop, in turns.")] = 5,
    recompute: Annotated[
        str, typer.Option(help="Activations that are recomputed: none, heads or all.")
    ] = "none",
    compare: Annotated[
        str, typer.Option(help="Loop to compare with: one-at-a-time or none.")
    ] = "one-at-a-time",
    output: options.OutputOpt = None,
    device: options.DeviceOpt = "auto",
    seed: options.SeedOpt = 0,
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Time a training step: data wait, forward, backward, optimizer.

    It is compared with the loop of the original project: one sample at a time, heads view by view.
    On a GPU also kernels of each. A loop that does not fit into memory has a row, too.
    """
    from distill3r_core.benchmarks.training import BenchTrainSettings, bench_train

    settings = options.settings(
        context, BenchTrainSettings, section="bench_train", leave=("overwrite",)
    )
    with console.progress(settings.device) as progress:
        report = bench_train(settings, overwrite=overwrite, progress=progress)
    console.show(report)


@options.shared()
def ablation(
    context: typer.Context,
    study: Annotated[
        str,
        typer.Option(
            help="table3: losses with and without the teacher's confidence; pairs: starts, "
            "features and parts of students that see two views; poses: what limits the poses of "
            "students of a cache; scene: networks of students of one scene."
        ),
    ] = "table3",
    seeds: Annotated[int, typer.Option(help="Students per loss, or per cell.")] = 3,
    steps: Annotated[
        int,
        typer.Option(help="Optimizer steps per student.", show_default="600; poses 800, scene 700"),
    ] = 600,
    scenes: Annotated[
        int,
        typer.Option(
            help="Rendered rooms; of scene: those to pretrain on.", show_default="4; pairs 8"
        ),
    ] = 4,
    processes: Annotated[
        int, typer.Option(help="Students of table3 trained at once, on one thread each.")
    ] = 2,
    output: options.OutputOpt = None,
    seed: options.SeedOpt = 0,
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Train small students that differ in one thing; score them against ground truth.

    `table3`: the table of the paper, on rendered rooms, with a teacher whose error grows as its
    confidence falls; about 20 minutes on two cores. `pairs`: students of a pair network that is
    trained in place. `poses`: students of a cache (`--set cache=caches/teacher`), poses with and
    without refinement. `scene`: students of a rendered room, or of your own scene (`--set
    cache=caches/teacher`). How long these take is said when they begin, of `poses` after the first
    student. Finished students are kept: after an interruption the same command continues with the
    others.
    """
    from distill3r_core.benchmarks.studies import STUDIES

    record = STUDIES[study]
    settings = options.settings(
        context, record.settings, section=record.section, leave=("overwrite", "study")
    )
    with console.progress("cpu") as progress:
        report = record.run(settings, overwrite=overwrite, progress=progress)
    console.show(report)
