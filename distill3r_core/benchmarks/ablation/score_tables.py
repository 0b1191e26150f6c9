"""Means and paired differences of the students' scores, and the tables that show them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill3r_core.report import Table

Run = Mapping[str, Any]  # a `variant`, a `seed`, and the figures of its score

# Heading and factor of each figure.
_SHOWN: dict[str, tuple[str, float]] = {
    "acc": ("Acc cm", 100.0),
    "comp": ("Comp cm", 100.0),
    "scale": ("Scale", 1.0),
    "scale_spread": ("scale spread %", 100.0),
    "acc_global": ("global Acc cm", 100.0),
    "comp_global": ("global Comp cm", 100.0),
    "global_error": ("global cm", 100.0),
}
FIGURES = tuple(_SHOWN)
ERRORS = tuple(name for name in FIGURES if name != "scale")  # smaller is better


def summary(variant: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Mean and sample deviation of a variant's figures over its seeds; no deviation of one seed."""
    mine = [run for run in runs if run["variant"] == variant]
    values = {name: [run[name] for run in mine] for name in FIGURES}
    return {"variant": variant, "seeds": len(mine), **_moments(values)}


def paired(variant: str, against: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Differences between the errors of a variant and of another from the same seed.

    Students of one seed share initial weights, training batches and the teacher's errors, whose
    effect cancels in the difference.

    Returns:
        `mean` and `spread` of the differences of `ERRORS`, and in how many seeds each is `above` 0.
    """
    by_seed = {(run["variant"], run["seed"]): run for run in runs}
    seeds = sorted(seed for name, seed in by_seed if name == variant)
    values = {
        name: [by_seed[variant, s][name] - by_seed[against, s][name] for s in seeds]
        for name in ERRORS
    }
    return {
        "variant": variant,
        "against": against,
        "seeds": len(seeds),
        **_moments(values),
        "above": {name: sum(value > 0 for value in values[name]) for name in ERRORS},
    }


def _moments(values: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float | None]]:
    return {
        "mean": {name: statistics.fmean(found) for name, found in values.items()},
        "spread": {
            name: statistics.stdev(found) if len(found) > 1 else None
            for name, found in values.items()
        },
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Tables of means with spreads, and of the paired differences."""
    rows = result["rows"]
    count = rows[0]["seeds"]
    seeds = "1 seed" if count == 1 else f"{count} seeds, mean ± deviation"
    found = [
        _table(
            f"Against the truth, held-out views, {seeds}",
            [*rows, {**result["teacher"], "variant": "the teacher itself"}],
            FIGURES,
            "{:.2f}",
        )
    ]
    if result["paired"]:
        against = result["paired"][0]["against"]
        title = f"More than {against} from the same seed, {seeds} (seeds in which it is more)"
        found.append(
            _table(
                title,
                result["paired"],
                ERRORS,
                "{:+.2f}",
                lambda row, name: f" ({row['above'][name]}/{row['seeds']})",
            )
        )
    return found


def _table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    form: str,
    after: Callable[[Mapping[str, Any], str], str] = lambda row, name: "",
) -> Table:
    def cell(row: Mapping[str, Any], name: str) -> str:
        factor, spread = _SHOWN[name][1], row["spread"][name]
        text = form.format(row["mean"][name] * factor)
        text += "" if spread is None else f" ± {spread * factor:.2f}"
        return text + after(row, name)

    headings = ("loss", *(_SHOWN[name][0] for name in names))
    return Table(
        title, headings, tuple((row["variant"], *(cell(row, n) for n in names)) for row in rows)
    )
