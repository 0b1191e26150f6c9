"""Published weights of teachers, and where they are on this machine."""

from dataclasses import dataclass
from pathlib import Path

from distill3r_core import paths
from distill3r_core.errors import WeightsError


@dataclass(frozen=True)
class HubFolder:
    """Weights that are published as a folder on the Hugging Face hub.

    Args:
        repo: Owner and name of the repository.
        files: Files that are read; the first one holds the tensors and is downloaded last.
        gigabytes: Size of the download.
        license: License of the weights.
    """

    repo: str
    files: tuple[str, ...]
    gigabytes: float
    license: str


def require_weights(
    name: str, folder: HubFolder | None, weights: Path | None = None, *, dry_run: str | None = None
) -> Path | None:
    """Find the weights that a teacher will read.

    Args:
        name: Name of the teacher.
        folder: Its published weights; None: it has none.
        weights: Folder or file that the user named; None: `DISTILL3R_HOME` and the hub's cache
            are searched.
        dry_run: Name of a simulated teacher that the message offers instead; None: it offers none.

    Returns:
        A folder or a file; None where the teacher has no weights.

    Raises:
        WeightsError: They are not there; says which file goes where, and what works without.
    """
    if folder is None:
        return weights
    if weights is not None and not weights.exists():
        raise WeightsError(
            f"no file or folder {weights}", hint=_ways_out(name, folder, weights, dry_run)
        )
    home = paths.weights_home() / name
    for found in (home, _hub_snapshot(folder)) if weights is None else (weights,):
        if found is not None and (found.is_file() or _complete(found, folder)):
            return found
    place = home if weights is None else weights
    missing = [file for file in folder.files if not (place / file).is_file()]
    raise WeightsError(
        f"the teacher {name!r} has no weights: {' and '.join(missing)} not found in {place}"
        + (" nor in the Hugging Face cache" if weights is None else ""),
        hint=_ways_out(name, folder, place, dry_run),
    )


def _ways_out(name: str, folder: HubFolder, place: Path, dry_run: str | None) -> str:
    trial = f"a dry run, not your scene: distill3r cache --resume --teacher {dry_run}\n"
    return (
        f"download them ({folder.gigabytes} GB, {folder.license}): "
        f"distill3r models download {name}\n"
        f"or put the files of {folder.repo} into {place}, or name their folder: --weights DIR\n"
        "the teacher of the paper: distill3r models download fast3r, then --teacher fast3r\n"
        + (trial if dry_run else "")
        + "the whole route on rendered scenes: distill3r demo"
    )


def _complete(folder: Path, source: HubFolder) -> bool:
    return all((folder / file).is_file() for file in source.files)


def _hub_snapshot(source: HubFolder) -> Path | None:
    """The folder in the hub's own cache, if it was downloaded."""
    from huggingface_hub import try_to_load_from_cache  # not free to import

    found = try_to_load_from_cache(source.repo, source.files[0])
    return Path(found).parent if isinstance(found, str) else None
