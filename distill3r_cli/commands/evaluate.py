"""`distill3r eval`: the point maps of models against ground truth."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, convention_options, options


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "eval",
        epilog="Examples: distill3r eval  ·  "
        "distill3r eval runs/small-001 runs/small-002 --data 7scenes  ·  "
        "distill3r eval --data 7scenes --predict constant",
    )(evaluate)


@options.shared(rare=convention_options.RARE)
def evaluate(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Run folders, weight files or names of teachers; the first is compared with the "
            "others.",
            show_default="the newest run",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a data set with ground truth.",
            show_default="the run's validation samples",
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of the data set.")] = "auto",
    protocol: Annotated[
        str,
        typer.Option(
            help="Frames, alignment and metrics: table2, held-out, localization, lunar, spann3r, "
            "fast3r, cut3r, pi3-sparse|dense, co3d-vggt|pi3|fast3r, da3-bench, "
            "spatialbench-single|sparse|medium|dense; docs/evaluation.md.",
        ),
    ] = "table2",
    predict: Annotated[
        str,
        typer.Option(
            help="What is scored: student, or without a MODEL truth (no error) or constant (one "
            "depth)."
        ),
    ] = "student",
    colmap: Annotated[
        bool | None,
        typer.Option(
            help="Score COLMAP's poses beside the model's; --colmap: of sequences over 60 views, "
            "too.",
            show_default="up to 60 views, where the extra colmap is installed",
        ),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            help="Refine poses of models by image alignment; scored with and without.",
        ),
    ] = True,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            show_default="the run's, else the protocol's",
            help="Rows x columns of the maps of --predict truth and constant.",
        ),
    ] = None,
    poses: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Poses that are the truth in place of the data's: a list of structure from motion "
            "(7-Scenes), a trajectory (TUM), a folder with a COLMAP model or cameras.json.",
            show_default=False,
        ),
    ] = None,
    pose_convention: convention_options.PoseConventionOpt = None,
    pose_axes: convention_options.PoseAxesOpt = None,
    depth_scale: convention_options.DepthScaleOpt = None,
    intrinsics_size: convention_options.IntrinsicsSizeOpt = None,
    trust: convention_options.TrustOpt = False,
    output: options.OutputOpt = None,
    device: options.DeviceOpt = "auto",
    overwrite: options.OverwriteOpt = False,
) -> None:
    """Score point maps and poses of models against ground truth, beside baselines."""
    from distill3r_core.stages.evaluate import EvalSettings, evaluate  # torch: instant --help

    settings = options.settings(context, EvalSettings, section="eval", leave=("overwrite", "trust"))
    with console.progress(settings.device) as progress:
        report = evaluate(settings, overwrite=overwrite, trust=trust, progress=progress)
    console.show(report)
