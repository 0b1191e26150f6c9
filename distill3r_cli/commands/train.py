"""`distill3r train`: a student learns what the teacher cache says."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_cli.built_in_names import listed
from distill3r_core import paths
from distill3r_core.models.presets import PRESETS

_EXAMPLES = """Examples:

distill3r train

distill3r train --preset small --max-steps 400 --set data.views=6 -o runs/kitchen"""

_RUN, _MACHINE = "Length and start", "Machine"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", epilog=_EXAMPLES)(train)


@options.shared(
    rare=(
        "cache_weight",
        "allow_missing",
        "recompute",
        "gpus",
        "seed",
    )
)
def train(
    context: typer.Context,
    cache: Annotated[
        list[Path] | None,
        typer.Option(
            show_default=str(paths.CACHE),
            help="Teacher cache, written by `distill3r cache`. Repeat it to learn from several.",
        ),
    ] = None,
    cache_weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=W",
            show_default="by their sizes",
            help="How often samples of one of several caches are drawn, by folder name or path; "
            "1 for those not named. Repeatable: --cache-weight kitchen=2.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="RUN", show_default="runs/<preset>-NNN", help="Run folder."
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            show_default="paper on a GPU, small on a CPU",
            help=f"Student, size and recipe: {listed(tuple(PRESETS))}.",
        ),
    ] = "paper",
    max_steps: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_RUN,
            show_default="the preset's",
            help="Length of the run in optimizer steps.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_RUN, show_default="the preset's", help="Length of the run in epochs."
        ),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=_RUN,
            show_default="no limit",
            help="Validate, save and stop after this many hours; continue with --resume.",
        ),
    ] = None,
    resume: options.ResumeOpt = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            rich_help_panel=_RUN,
            show_default="random weights",
            help="Start a new run from these weights: a run folder or a weight file.",
        ),
    ] = None,
    scene: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="the only one",
            help="Scene that a scene student learns, such as redkitchen. Repeat it for several.",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Train even if the cache lacks planned samples."),
    ] = False,
    recompute: Annotated[
        str,
        typer.Option(
            rich_help_panel=_MACHINE,
            help="Recompute activations to save memory: none, heads or all. Slower.",
        ),
    ] = "none",
    gpus: Annotated[
        int,
        typer.Option(
            rich_help_panel=_MACHINE, help="Number of processes on this machine, one per GPU."
        ),
    ] = 1,
    overwrite: options.OverwriteOpt = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before --overwrite deletes checkpoints.")
    ] = False,
    seed: options.SeedOpt = 0,
    device: options.DeviceOpt = "auto",
) -> None:
    """Train a student from a teacher cache, or from several.

    Writes a run folder with checkpoints, metrics and settings, which eval and infer take.
    """
    from distill3r_core.models.families import train_presets
    from distill3r_core.stages.train import TrainSettings, default_preset, train
    from distill3r_core.stages.train.launch import is_launcher, launch_training
    from distill3r_core.stages.train.overwriting import planned_deletion
    from distill3r_core.stages.train.resolve import LENGTHS, complete_model

    settings = options.settings(
        context,
        TrainSettings,
        section="train",
        keys={"recompute": "compute.recompute", "cache_weight": "cache_weights"},
        leave=("resume", "overwrite", "yes"),
        presets=train_presets,
        default_preset=default_preset(),
        alternatives=LENGTHS,
        complete=complete_model,
    )
    if overwrite and not (resume or yes) and console.can_ask():
        found = planned_deletion(settings)
        if found is not None and found.is_long:
            console.require_consent(f"--overwrite deletes {found}. Continue?", kept=str(found.run))
    if is_launcher(settings):
        console.mark_launcher()
        command = [sys.executable, "-m", "distill3r_cli", *sys.argv[1:]]
        raise typer.Exit(launch_training(settings, command, resume=resume, overwrite=overwrite))
    with console.progress(settings.device) as progress:
        report = train(settings, resume=resume, overwrite=overwrite, progress=progress)
    console.show(report)
