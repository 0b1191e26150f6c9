"""`distill3r manifest`: from folders of data to a manifest and processed images."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, convention_options, options
from distill3r_cli.built_in_names import LAYOUTS, listed
from distill3r_core import paths

_EXAMPLES = (
    "Examples: distill3r manifest photos/  ·  "
    "distill3r manifest 7scenes/ --stride 5 --val-frames last:40"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("manifest", epilog=_EXAMPLES)(manifest)


@options.shared(
    rare=(
        "samples_per_scene",
        "sample_frac",
        "val_scenes",
        "ignore_masks",
        "resize_max",
        "link",
        *convention_options.RARE,
        "check",
        "teacher_rate",
        "seed",
    )
)
def manifest(
    context: typer.Context,
    roots: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of data, videos, or a data_paths.yaml.", show_default=False),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the manifest and its images.")
    ] = paths.DATA,
    layout: Annotated[
        str,
        typer.Option(help=f"Layout of the data: {listed(LAYOUTS)}; auto: by its files."),
    ] = "auto",
    views: Annotated[
        str,
        typer.Option(help="Views per sample; all: one sample holds a scene, for scene students."),
    ] = "20",
    stride: Annotated[
        str | None,
        typer.Option(
            metavar="N|pose",
            help="Frames from one view of a sample to the next, or pose: by camera motion.",
            show_default="by data set",
        ),
    ] = None,
    samples_per_scene: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of samples per scene, in each split.",
            show_default="5; a recording of fewer than 300 frames is used whole",
        ),
    ] = None,
    sample_frac: Annotated[float, typer.Option(help="Fraction of the scenes to keep.")] = 1.0,
    val_scenes: Annotated[
        float, typer.Option(help="Fraction of the scenes held out for validation.")
    ] = 0.1,
    val_frames: Annotated[
        str | None,
        typer.Option(
            metavar="last:N|every:K",
            help="Hold out frames of every scene instead of whole scenes: the last N, or every "
            "K-th.",
            show_default=False,
        ),
    ] = None,
    images_only: Annotated[
        bool, typer.Option("--images-only", help="Keep images only, without depth and poses.")
    ] = False,
    ignore_masks: Annotated[
        bool,
        typer.Option(
            "--ignore-masks",
            help="Use all pixels, also where a masks folder or transparency excludes them.",
        ),
    ] = False,
    resize_max: Annotated[
        int, typer.Option(help="Longest edge of a processed image, in pixels.")
    ] = 960,
    link: Annotated[
        bool,
        typer.Option(
            "--link",
            help="Name the original images in the manifest instead of writing resized copies.",
        ),
    ] = False,
    pose_convention: convention_options.PoseConventionOpt = None,
    pose_axes: convention_options.PoseAxesOpt = None,
    poses: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|colmap",
            help="Poses instead of the data's own: a trajectory (TUM), a list of structure from "
            "motion (7-Scenes), a folder with a COLMAP model, or cameras.json of infer; "
            "colmap: estimated from the images (extra colmap).",
            show_default=False,
        ),
    ] = None,
    depth_scale: convention_options.DepthScaleOpt = None,
    intrinsics_size: convention_options.IntrinsicsSizeOpt = None,
    trust: convention_options.TrustOpt = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Read all files again, even those whose size and time have not changed."
        ),
    ] = False,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Write a contact sheet of the first sample of each scene, to look at."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print how many samples there are and what they cost; write nothing."
        ),
    ] = False,
    teacher_rate: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="Teacher's speed in views per second, for the time that --dry-run estimates.",
            metavar="VIEWS",
        ),
    ] = None,
    overwrite: options.OverwriteOpt = False,
    seed: options.SeedOpt = 0,
) -> None:
    """Turn images, videos or RGB-D frames into samples for a teacher."""
    from distill3r_core.stages.manifest import ManifestSettings, build_manifest

    settings = options.settings(
        context,
        ManifestSettings,
        section="manifest",
        leave=("dry_run", "teacher_rate", "overwrite", "trust", "check", "preview"),
    )
    with console.progress("cpu") as progress:
        report = build_manifest(
            settings,
            dry_run=dry_run,
            overwrite=overwrite,
            trust=trust,
            check=check,
            preview=preview,
            teacher_rate=teacher_rate,
            progress=progress,
        )
    console.show(report)
