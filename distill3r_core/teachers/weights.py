"""Where the teachers' weight files are, found without loading anything."""

from dataclasses import dataclass
from pathlib import Path

from distill3r_core import paths
from distill3r_core.errors import WeightsError


@dataclass(frozen=True)
class HubFolder:
    """Weights that are published as a folder on the Hugging Face hub.

    Args:
        repo: Owner and name.
        files: All that is read of it; the first is the one that makes it complete.
        gigabytes: Of the download.
        license: Of the weights.
    """

    repo: str
    files: tuple[str, ...]
    gigabytes: float
    license: str


HUB_FOLDERS = {
    "fast3r": HubFolder(
        repo="jedyang97/Fast3R_ViT_Large_512",
        files=("model.safetensors", "config.json"),
        gigabytes=2.6,
        license="FAIR Noncommercial Research License",
    )
}


def require_weights(name: str, weights: Path | None = None) -> Path | None:
    """The weights that a teacher will read: a folder or a file; None where it needs none.

    Args:
        name: Of the teacher.
        weights: What the user named; None: `DISTILL3R_HOME` and the hub's cache are searched.

    Raises:
        WeightsError: They are not there; says which file goes where, and what works without.
    """
    if name not in HUB_FOLDERS:
        return weights
    if weights is not None and not weights.exists():
        raise WeightsError(f"no file or folder {weights}", hint=_ways_out(name, weights))
    source = HUB_FOLDERS[name]
    home = paths.weights_home() / name
    for folder in (home, _hub_snapshot(source)) if weights is None else (weights,):
        if folder is not None and (folder.is_file() or _complete(folder, source)):
            return folder
    place = home if weights is None else weights
    missing = [file for file in source.files if not (place / file).is_file()]
    raise WeightsError(
        f"the teacher {name!r} has no weights: {' and '.join(missing)} not found in {place}"
        + (" nor in the Hugging Face cache" if weights is None else ""),
        hint=_ways_out(name, place),
    )


def _ways_out(name: str, place: Path) -> str:
    source = HUB_FOLDERS[name]
    return (
        f"download them ({source.gigabytes} GB, {source.license}): "
        f"distill3r models download {name}\n"
        f"or put the files of {source.repo} into {place}, or name their folder: --weights DIR\n"
        "a dry run, not your scene: distill3r cache --resume --teacher synthetic\n"
        "the whole route on rendered scenes: distill3r demo"
    )


def _complete(folder: Path, source: HubFolder) -> bool:
    return all((folder / file).is_file() for file in source.files)


def _hub_snapshot(source: HubFolder) -> Path | None:
    """The folder in the hub's own cache, if it was downloaded."""
    from huggingface_hub import try_to_load_from_cache  # not free to import

    found = try_to_load_from_cache(source.repo, source.files[0])
    return Path(found).parent if isinstance(found, str) else None
