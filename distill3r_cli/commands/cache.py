"""`distill3r cache` and its siblings."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_cli.built_in_names import AUTOMATIC_TEACHERS, TEACHERS, listed
from distill3r_core import paths

cache_app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)

PathArg = Annotated[Path, typer.Argument(help="The cache's folder.")]


def register(app: typer.Typer) -> None:
    """Add the command and its siblings."""
    # `distill3r cache --resume`; info, verify, ... are beside it
    cache_app.callback(invoke_without_command=True)(cache)
    siblings = (
        (info, "info", ("", "caches/teacher --picture maps.png")),
        (verify, "verify", ("--recompute 3", "--repair")),
        (compare, "compare", ("caches/vggt caches/da3", "caches/depth caches/da3 --json")),
        (merge, "merge", ("part-0 part-1 -o caches/whole", "caches/teacher -o caches/compact")),
        (export, "export", ("caches/teacher -o exported", "caches/teacher --format npz -o npz")),
        (import_, "import", ("exported", "exported --images photos -o caches/imported")),
    )
    for command, name, examples in siblings:
        lines = [f"distill3r cache {name} {example}".strip() for example in examples]
        cache_app.command(name, epilog="Examples: " + "  ·  ".join(lines))(command)
    app.add_typer(cache_app, name="cache", epilog=EPILOG)


EPILOG = (
    "Examples: distill3r cache --resume  ·  "
    "distill3r cache --teacher synthetic --size 112x154 -o caches/trial"
)


@options.shared(
    rare=(
        "weights",
        "fit",
        "threshold",
        "pairs",
        "features",
        "shard",
        "seed",
    )
)
def cache(
    context: typer.Context,
    manifest: Annotated[
        Path, typer.Option(help="Manifest written by `distill3r manifest`.")
    ] = paths.MANIFEST,
    output: Annotated[Path, typer.Option("--output", "-o", help="Cache folder.")] = paths.CACHE,
    teacher: Annotated[
        str,
        typer.Option(
            help=f"Name of the teacher: {listed(TEACHERS)}; auto: the first of "
            f"{' and '.join(AUTOMATIC_TEACHERS)} that the data have enough for."
        ),
    ] = "auto",
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of the teacher, if they are not in the usual place."),
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="Rows x columns of landscape samples; auto: by the shape of the images."),
    ] = "224x518",
    fit: Annotated[
        str,
        typer.Option(
            help="How images become the student's size: squash (their aspect is lost), crop (their "
            "rim is), or release (as the original trains)."
        ),
    ] = "squash",
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Leave pixels out whose confidence C has C - 1 at or below this; default: the "
            "teacher's own."
        ),
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs",
            help="Store every pair of a pairwise teacher (mast3r, dust3r-...) as a sample of two "
            "views, in both orders, instead of aligning them; pairs: --set teacher.graph=swin-3.",
        ),
    ] = False,
    features: Annotated[
        str,
        typer.Option(
            metavar="LAYER",
            help="Store the teacher's features of this layer as well, for loss terms that compare "
            "them: enc_norm of mast3r, dust3r-... and pair students; several with commas; none.",
        ),
    ] = "none",
    resume: options.ResumeOpt = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Build part i (from 0) of n, for job arrays.")
    ] = None,
    device: options.DeviceOpt = "auto",
    seed: options.SeedOpt = 0,
) -> None:
    """Run a teacher over every sample of a manifest and store its point maps."""
    if options.runs_subcommand(context):  # refuses options that a sibling would drop
        return
    from distill3r_core.stages.cache import CacheSettings, build_cache  # torch: `--help` is instant

    settings = options.settings(
        context,
        CacheSettings,
        section="cache",
        keys={"teacher": "teacher.name"},
        leave=("resume", "dry_run", "shard"),
    )
    with console.progress(settings.device) as progress:
        report = build_cache(
            settings, resume=resume, dry_run=dry_run, shard=shard, progress=progress
        )
    console.show(report)


@options.shared(settings=False)
def info(
    context: typer.Context,
    path: PathArg = paths.CACHE,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Draw the maps of a sample into an image of this name.", show_default=False
        ),
    ] = None,
    sample: Annotated[
        str | None, typer.Option(help="Which sample is drawn; default: the first.")
    ] = None,
) -> None:
    """Show what a cache holds: settings, counts, sizes, scenes."""
    from distill3r_core.stages.cache.inspect_cache import cache_info  # torch: keep `--help` instant

    console.show(cache_info(path, picture=picture, sample=sample))


@options.shared(settings=False, plugins=True)
def verify(
    context: typer.Context,
    path: PathArg = paths.CACHE,
    manifest: Annotated[
        Path, typer.Option(help="Manifest whose images are compared with what the teacher read.")
    ] = paths.MANIFEST,
    recompute: Annotated[
        int, typer.Option(metavar="N", min=0, help="Ask the teacher again about N random samples.")
    ] = 0,
    weights: Annotated[
        Path | None, typer.Option(help="The teacher's weights, for --recompute.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop what is broken; `cache --resume` makes it again.")
    ] = False,
    device: options.DeviceOpt = "auto",
    seed: options.SeedOpt = 0,
) -> None:
    """Compare every stored byte with its checksum. Exit 1: damage; 5: missing samples."""
    from distill3r_core.stages.cache.verify import VerifySettings, verify_cache

    settings = VerifySettings(path, manifest, recompute, weights, repair, device, seed)
    with console.progress(device) as progress:
        report = verify_cache(settings, progress=progress)
    console.show(report, passed=report.result["ok"])


@options.shared(settings=False, plugins=True)
def compare(
    context: typer.Context,
    first: Annotated[Path, typer.Argument(metavar="A", help="Cache to compare with.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Cache of another teacher.")],
    manifest: Annotated[
        Path,
        typer.Option(help="Manifest whose depth and poses both are compared with, if it has them."),
    ] = paths.MANIFEST,
) -> None:
    """Compare two teachers on the samples that both caches hold: depth, poses, confidence."""
    from distill3r_core.stages.cache.compare_caches import CompareSettings, compare_caches

    with console.progress("cpu") as progress:
        report = compare_caches(CompareSettings(first, second, manifest), progress=progress)
    console.show(report)


@options.shared(settings=False)
def merge(
    context: typer.Context,
    parts: Annotated[list[Path], typer.Argument(help="Caches made with the same settings.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Cache that is made.")],
) -> None:
    """Copy caches, or the shards of one, into one."""
    from distill3r_core.stages.cache.merge import merge_caches

    with console.progress("cpu") as progress:
        report = merge_caches(parts, output, progress=progress)
    console.show(report)


@options.shared(settings=False)
def export(
    context: typer.Context,
    path: PathArg,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    format_: Annotated[
        str, typer.Option("--format", help="npz: the original project's.", show_choices=True)
    ] = "npz",
) -> None:
    """Write a cache in the original project's format."""
    from distill3r_core.stages.cache.original_exchange import export_original

    if format_ != "npz":
        raise typer.BadParameter(f"{format_!r} is unknown; there is npz", param_hint="--format")
    with console.progress("cpu") as progress:
        report = export_original(path, output, progress=progress)
    console.show(report)


@options.shared(settings=False)
def import_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="Cache of the original project.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Cache that is made.")
    ] = paths.CACHE,
    images: Annotated[
        Path, typer.Option(help="Folder that relative image paths start from.")
    ] = Path(),
    teacher: Annotated[
        str | None,
        typer.Option(
            show_default="as exported; fast3r for a cache of the original project",
            help="Teacher that the cache was made by.",
        ),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(
            show_default="as exported, or the teacher's", help="License of the teacher's weights."
        ),
    ] = None,
) -> None:
    """Read a cache in the original project's format, and the images it refers to."""
    from distill3r_core.stages.cache.original_exchange import ImportSettings, import_original

    with console.progress("cpu") as progress:
        report = import_original(
            ImportSettings(path, output, images, teacher, license), progress=progress
        )
    console.show(report)
