"""`distill3r models list | path | download`: published weights."""

from typing import Annotated

import typer

from distill3r_cli import console, options

_Name = Annotated[str, typer.Argument(metavar="NAME", help="As `models list` shows it.")]

models_app = typer.Typer(
    help="Published weights: list them, find them, download them by name.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help", "--help-all"]},
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models_app.command(
        "list", epilog="Examples: distill3r models list  ·  distill3r models list --json"
    )(list_models)
    models_app.command(
        "path",
        epilog="Examples: distill3r models path fast3r  ·  distill3r models path dune-vits-448",
    )(path)
    models_app.command(
        "download",
        epilog="Examples: distill3r models download fast3r  ·  "
        "distill3r models download dune-vits-448",
    )(download)
    app.add_typer(models_app, name="models")


@options.shared(settings=False, plugins=True)
def list_models(context: typer.Context) -> None:
    """Show every model with its size, license, and where its file is or goes."""
    from distill3r_core.stages.weights import list_weights  # torch: keep `--help` instant

    console.show(list_weights())


@options.shared(settings=False, plugins=True)
def path(context: typer.Context, name: _Name) -> None:
    """Print where the weights of one model are."""
    from distill3r_core.stages.weights import weights_path

    console.show(weights_path(name))


@options.shared(settings=False, plugins=True)
def download(context: typer.Context, name: _Name) -> None:
    """Download the weights of one model; run again to continue after an interruption."""
    from distill3r_core.stages.weights import download_weights

    with console.progress() as progress:
        report = download_weights(name, progress=progress)
    console.show(report)
