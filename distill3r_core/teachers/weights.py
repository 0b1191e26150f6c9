"""Published weights of teachers, and where they are on this machine."""

from pathlib import Path

from distill3r_core.errors import WeightsError
from distill3r_core.io.published_weights import PublishedWeights


def require_weights(
    published: PublishedWeights | None,
    weights: Path | None = None,
    *,
    dry_run: str | None = None,
    as_model: bool = False,
) -> Path | None:
    """Find the weights that a teacher will read.

    Args:
        published: Its published weights; None: it has none.
        weights: Folder or file that the user named; None: `DISTILL3R_HOME` and the hub's cache
            are searched.
        dry_run: Name of a simulated teacher that the message offers instead; None: it offers none.
        as_model: The teacher is to be run as a model (`-m`), not to fill a cache.

    Returns:
        A folder or a file; None where the teacher has no weights.

    Raises:
        WeightsError: They are not there; says which file goes where, and what works without.
    """
    if published is None:
        return weights
    place = published.place if weights is None else weights
    hint = _ways_out(published, place, dry_run, as_model=as_model)
    if weights is None:
        found = published.find()
    elif not weights.exists():
        raise WeightsError(f"no file or folder {weights}", hint=hint)
    else:
        found = weights if weights.is_file() or published.complete(weights) else None
    if found is not None:
        return found
    missing = [file for file in published.files if not (place / file).is_file()]
    raise WeightsError(
        f"the teacher {published.name!r} has no weights: {' and '.join(missing)} not found in "
        f"{place}" + (" nor in the Hugging Face cache" if weights is None else ""),
        hint=hint,
    )


def _ways_out(
    published: PublishedWeights, place: Path, dry_run: str | None, *, as_model: bool
) -> str:
    own = "give that folder in place of the name" if as_model else "name it by --weights DIR"
    trial = f"a dry run, not your scene: distill3r cache --resume --teacher {dry_run}\n"
    paper = "fast3r as the model" if as_model else "--teacher fast3r"
    return (
        f"download them ({published.size}, {published.license}): "
        f"distill3r models download {published.name}\n"
        f"or put the files of {published.repo} into {place}, or elsewhere, and {own}\n"
        f"the teacher of the paper: distill3r models download fast3r, then {paper}\n"
        + (trial if dry_run else "")
        + "the whole route on rendered scenes: distill3r demo"
    )
