"""`distill3r cache` and its siblings."""

from pathlib import Path
from typing import Annotated

import typer

from distill3r_cli import console, options
from distill3r_core import paths

cache_app = typer.Typer(name="cache")

PathArg = Annotated[Path, typer.Argument(help="The cache's folder.")]


def register(app: typer.Typer) -> None:
    """Add the command and its siblings."""
    cache_app.callback(
        invoke_without_command=True,  # `distill3r cache --resume`; info, verify, ... are beside it
        epilog="Examples: distill3r cache --resume  ·  "
        "distill3r cache --teacher synthetic --size 112x154 -o caches/trial",
    )(cache)
    app.add_typer(cache_app, name="cache")


@options.shared()
def cache(
    context: typer.Context,
    manifest: Annotated[
        Path, typer.Option(help="Manifest written by `distill3r manifest`.")
    ] = paths.MANIFEST,
    output: Annotated[Path, typer.Option("--output", "-o", help="Cache folder.")] = paths.CACHE,
    teacher: Annotated[
        str,
        typer.Option(help="Its name; auto: depth where the data has it, else fast3r."),
    ] = "auto",
    weights: Annotated[
        Path | None, typer.Option(help="The teacher's weights, where they are not at their place.")
    ] = None,
    size: Annotated[
        str, typer.Option(help="Rows x columns of landscape samples; auto: by the pictures' shape.")
    ] = "224x518",
    fit: Annotated[str, typer.Option(help="squash, crop or release.")] = "squash",
    threshold: Annotated[
        float | None, typer.Option(help="Of the confidence C - 1; default: the teacher's own.")
    ] = None,
    resume: options.ResumeOpt = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Make part i (from 0) of n, for job arrays.")
    ] = None,
    device: options.DeviceOpt = "auto",
    seed: options.SeedOpt = 0,
) -> None:
    """Run a teacher over every sample of a manifest and store its point maps."""
    if options.left_to_sibling(context):  # refuses options that a sibling would drop
        return
    from distill3r_core.stages.cache import CacheSettings, build_cache  # torch: `--help` is instant

    settings = options.settings(
        context, CacheSettings, section="cache", leave=("resume", "dry_run", "shard")
    )
    with console.progress(settings.device) as progress:
        report = build_cache(
            settings, resume=resume, dry_run=dry_run, shard=shard, progress=progress
        )
    console.show(report)
