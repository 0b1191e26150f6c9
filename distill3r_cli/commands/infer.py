"""`distill3r infer`: pictures to a reconstruction."""

from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_core.reconstruction.formats import FORMATS

_EXAMPLES = """Examples:

distill3r infer photos --ply

distill3r infer clip.mp4 --fps 1 -m runs/small-001 -o desk

distill3r infer photos -m runs/small-001 --compare da3-small

distill3r infer photos -m mast3r --set teacher.graph=swin-3"""

_INPUT, _CLOUD = "Input", "Cloud"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("infer", epilog=_EXAMPLES)(infer)


@options.shared(
    rare=(
        "ignore_masks",
        "keep_exif",
        "each",
        "head",
        "edges",
        "voxel",
        "cloud",
        "poses",
        "pnp",
        "refine",
        "precision",
        "compile",
        "seed",
    )
)
def infer(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Folders, images, glob patterns or videos, in natural order of their paths.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            parser=options.text,
            show_default="the newest run",
            help="Run folder, weight file, or a teacher: name, hub folder or file.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="MODEL",
            parser=options.text,
            show_default=False,
            help="Another model, as with --model, whose cloud is put beside it by one similarity: "
            "compare.html and compare.png.",
        ),
    ] = None,
    ply: Annotated[
        bool, typer.Option("--ply", help="Write the point cloud as PLY (the default format).")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            show_default="ply; with --head local: depth",
            help=f"Formats to write, separated by commas: {', '.join(FORMATS)}.",
        ),
    ] = None,
    output: options.OutputOpt = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            show_default="the student's",
            rich_help_panel=_INPUT,
            help="Rows x columns of landscape images for the student, such as 112x154.",
        ),
    ] = None,
    fps: Annotated[
        float,
        typer.Option(
            rich_help_panel=_INPUT, help="Frames taken of each second of a video, at most."
        ),
    ] = 2.0,
    max_views: Annotated[
        int | None,
        typer.Option(
            show_default="all",
            rich_help_panel=_INPUT,
            help="Largest number of views of a scene; more are thinned out evenly.",
        ),
    ] = None,
    ignore_masks: Annotated[
        bool,
        typer.Option(
            "--ignore-masks",
            rich_help_panel=_INPUT,
            help="Use all pixels, also where a masks folder or transparency excludes them.",
        ),
    ] = False,
    keep_exif: Annotated[
        bool,
        typer.Option(
            "--keep-exif",
            rich_help_panel=_INPUT,
            help="Keep metadata (place, time, camera) in copies of the images; default: leave it "
            "out.",
        ),
    ] = False,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            rich_help_panel=_INPUT,
            help="Reconstruct each folder as a scene of its own.",
        ),
    ] = False,
    head: Annotated[
        str,
        typer.Option(
            metavar="both|global|local",
            rich_help_panel=_CLOUD,
            help="Heads that run. global: poses by PnP (extra colmap), cloud of global points; "
            "local: depth and focal length of each view, no poses, no cloud.",
        ),
    ] = "both",
    conf: Annotated[
        float,
        typer.Option(
            rich_help_panel=_CLOUD,
            help="Drop this percentage of the points, the least confident ones.",
        ),
    ] = 10.0,
    edges: Annotated[
        float,
        typer.Option(
            rich_help_panel=_CLOUD,
            help="Drop points where depth jumps by more than this share of it; 0: none.",
        ),
    ] = 0.0,
    voxel: Annotated[
        float,
        typer.Option(
            rich_help_panel=_CLOUD, help="Keep one point per cube of this edge; 0: all points."
        ),
    ] = 0.0,
    max_points: Annotated[
        int, typer.Option(rich_help_panel=_CLOUD, help="Largest number of points in the cloud.")
    ] = 1_000_000,
    cloud: Annotated[
        str | None,
        typer.Option(
            metavar="aligned|global",
            show_default="aligned; with --head global: global",
            rich_help_panel=_CLOUD,
            help="Local points carried by each view's similarity, or points of the global maps.",
        ),
    ] = None,
    poses: Annotated[
        str | None,
        typer.Option(
            metavar="similarity|pnp|colmap",
            show_default="similarity; with --head global: pnp",
            rich_help_panel=_CLOUD,
            help="Where cameras come from: the similarity of local to global points, PnP with "
            "RANSAC, or COLMAP, which places the local points (both: extra colmap).",
        ),
    ] = None,
    pnp: Annotated[
        bool,
        typer.Option(
            "--pnp",
            rich_help_panel=_CLOUD,
            help="Run PnP beside the similarity and report how far they differ (extra colmap); "
            "it triples the time.",
        ),
    ] = False,
    refine: Annotated[
        bool | None,
        typer.Option(
            "--refine/--no-refine",
            show_default="where the model has learned such images",
            rich_help_panel=_CLOUD,
            help="Refine poses by aligning the images on the predicted depth.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with status 5 if the reconstruction is unreliable.",
        ),
    ] = False,
    intrinsics: Annotated[
        str | None,
        typer.Option(
            metavar="fx,fy,cx,cy|FILE",
            show_default="estimated",
            rich_help_panel=_INPUT,
            help="Intrinsics of the full-size images, in pixels with centers at +0.5: four "
            "numbers, or a file of them or of the 3x3 matrix.",
        ),
    ] = None,
    shared_camera: Annotated[
        bool,
        typer.Option(
            "--shared-camera",
            rich_help_panel=_INPUT,
            help="Estimate one focal length for all images.",
        ),
    ] = False,
    scale_from: Annotated[
        str | None,
        typer.Option(
            metavar="A:B=METERS|FILE",
            show_default=False,
            rich_help_panel=_CLOUD,
            help="Make lengths metric: the distance between two views, or a file of lines "
            "`NAME X Y Z` with camera positions in meters.",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|float32|bfloat16",
            help="Precision of the student; auto: bfloat16 on a GPU that supports it.",
        ),
    ] = "auto",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the student first. Takes a minute; pays off for many scenes."
        ),
    ] = False,
    overwrite: options.OverwriteOpt = False,
    device: options.DeviceOpt = "auto",
    seed: options.SeedOpt = 0,
) -> None:
    """Reconstruct a scene from images: a point cloud, cameras and a preview."""
    from distill3r_core.stages.infer import InferSettings
    from distill3r_core.stages.infer import infer as run  # torch: keep --help instant

    settings = options.settings(context, InferSettings, section="infer", leave=("overwrite",))
    with console.progress(settings.device) as progress:
        report = run(settings, overwrite=overwrite, progress=progress)
    console.show(report)
