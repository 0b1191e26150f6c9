"""Outcomes of a study's cells: kept in files, summed up over seeds, compared seed by seed."""

import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from distill3r_core import config
from distill3r_core.errors import DamageError
from distill3r_core.files import read_own, write_text
from distill3r_core.profiling import one_thread
from distill3r_core.stages.benchmark.result_folder import ResultFolder, claim_folder

CURVE = 10  # points of a loss curve


@dataclass(frozen=True)
class StoredOutcome:
    """The outcome of one training, in a file of its own."""

    path: Path
    identity: Mapping[str, Any]  # what the outcome depends on

    def read(self) -> dict[str, Any] | None:
        """The outcome, if it is that of these settings.

        Raises:
            DamageError: The file is not what was written.
        """
        try:
            stored = json.loads(read_own(self.path))
            found, outcome = stored["identity"], stored["outcome"]
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise DamageError(f"{self.path} is damaged", hint="delete it and run again") from error
        return outcome if found == dict(self.identity) else None

    def write(self, outcome: Mapping[str, Any]) -> None:
        """Write plain data, whole and synced."""
        text = json.dumps({"identity": dict(self.identity), "outcome": dict(outcome)}, indent=2)
        write_text(self.path, text + "\n", durable=True)


def keep_study(
    name: str,
    settings: Any,
    run: Callable[[Path], dict[str, Any]],
    *,
    inputs: str | None = None,
    overwrite: bool,
) -> tuple[ResultFolder, dict[str, Any]]:
    """The result of a study, from its folder or made there on one thread.

    Args:
        name: Name of the folder.
        settings: Settings of the study, with a field `output`.
        run: Makes the result in a folder; after an interruption it goes on with what is there.
        inputs: Hash of the data that it reads; None: there are none that could change.
        overwrite: Replace another result in the chosen folder.

    Raises:
        ConflictError: The chosen folder holds another result.
    """
    folder = claim_folder(
        name,
        config.as_plain(settings),
        chosen=settings.output,
        inputs=inputs,
        overwrite=overwrite,
        resumable=True,
        ignored=("output",),
    )
    if folder.finished:
        return folder, folder.read()
    with one_thread():
        result = run(folder.folder)
    folder.write(result)
    return folder, result


def each_once(cells: Sequence[str]) -> None:
    """Refuse a choice of cells that names one twice.

    Raises:
        ValueError: Says which were chosen.
    """
    if len(set(cells)) < len(cells):
        raise ValueError(f"cells: one stands twice in {', '.join(cells)}")


def parts_name(*facts: Any) -> str:
    """Folder of what a study makes, another one for all that decides what that is.

    What `--overwrite` replaces by other settings must not go on with what was made for them.

    Args:
        facts: Plain data.
    """
    text = json.dumps(facts, sort_keys=True)
    return f"parts-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def kept_outcomes(
    cells: Sequence[tuple[str, int]], stored: Sequence[StoredOutcome]
) -> list[dict[str, Any]]:
    """The outcomes that are there, each with its cell and seed."""
    return [
        {"cell": cell, "seed": seed, **found}
        for (cell, seed), kept in zip(cells, stored, strict=True)
        if (found := kept.read()) is not None
    ]


def shared_figures(
    runs: Sequence[Mapping[str, Any]], figures: Iterable[str], *cells: str
) -> list[str]:
    """The figures that all runs of some cells have: a student that places nothing lacks some."""
    mine = [run for run in runs if run["cell"] in cells]
    return [name for name in figures if all(run[name] is not None for run in mine)]


def shown_moments(row: Mapping[str, Any], name: str, form: str) -> str:
    """Mean and deviation of a figure of a row with `moments`; empty where it has none."""
    if name not in row["mean"]:
        return ""
    text, spread = form.format(row["mean"][name]), row["spread"][name]
    return text if spread is None else f"{text} ± {spread:.2g}"


def number_of_seeds(rows: Sequence[Mapping[str, Any]]) -> str:
    """The seeds of a table in words."""
    count = max(row["seeds"] for row in rows)
    return "one seed" if count == 1 else f"{count} seeds, mean ± deviation"


def tenths(values: Sequence[float]) -> list[float]:
    """Means of the tenths of a series, in order; a shorter one as it is."""
    count = min(CURVE, len(values))
    ends = [round(len(values) * part / count) for part in range(count + 1)]
    return [statistics.fmean(values[start:end]) for start, end in pairwise(ends)]


def last_losses(curve: Sequence[float]) -> str:
    """The end of a curve, which shows whether it has come to a plateau."""
    return f"{curve[-2]:.3g} → {curve[-1]:.3g}" if len(curve) > 1 else ""


def moments(values: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over the seeds, of each figure; the latter None for one seed."""
    return {
        "mean": {name: statistics.fmean(found) for name, found in values.items()},
        "spread": {
            name: statistics.stdev(found) if len(found) > 1 else None
            for name, found in values.items()
        },
    }


def differences(
    cell: str, against: str, runs: Sequence[Mapping[str, Any]], figures: Sequence[str]
) -> dict[str, Any]:
    """Differences of one cell to another of the same seed, over the seeds that both have.

    Args:
        runs: Outcomes with `cell` and `seed`; both cells share at least one seed.
    """
    found = {(run["cell"], run["seed"]): run for run in runs}
    seeds = sorted(seed for name, seed in found if name == cell and (against, seed) in found)
    values = {
        name: [found[cell, seed][name] - found[against, seed][name] for seed in seeds]
        for name in figures
    }
    return {"cell": cell, "against": against, "seeds": len(seeds), **moments(values)}


def compared(
    cells: Sequence[str], against: str, others: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Which of a study's cells are compared with which: all with one, and some with each other.

    Args:
        against: The cell that the others are compared with.
        others: Further comparisons, the baseline second.
    """
    pairs = [*((cell, against) for cell in cells if cell != against), *others]
    return [(cell, baseline) for cell, baseline in pairs if {cell, baseline} <= set(cells)]


def by_baseline(paired: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Differences by the cell that they are to, in order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in paired:
        found.setdefault(row["against"], []).append(row)
    return found
