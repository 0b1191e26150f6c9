"""Hold a GPU to the targets of this project: `python docs/benchmarks/gates.py FOLDER --runs 5`.

Three measurements with `distill3r bench`: the student beside its teacher, the student alone at 1000
views, and the same within 24 and 48 GB. Each has a folder of its own in FOLDER, and one that is
finished is not repeated; the verdicts go to FOLDER/gates.json. The targets are for preset `paper`
at 378x518 on an H200. To see that it runs, everything is done in little on a CPU with
`--device cpu --preset tiny --size 28x42 --views 2,4 --many 8`.
"""

import argparse
import itertools
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill3r_core import config
from distill3r_core.errors import OutOfMemoryError
from distill3r_core.files import write_text
from distill3r_core.stages.benchmark import BenchSettings, benchmark

STUDENT = "student"
# Least number of times that the compared model takes as long, by number of views.
RATIOS = {
    "fast3r-reference": {12: 4.0, 32: 4.7, 64: 5.2, 96: 5.5, 128: 5.8},
    "fast3r": {12: 3.0, 32: 3.6, 64: 4.1, 96: 4.5, 128: 4.7},  # 0.9 of the ratio of their FLOP
    "student-reference": {12: 1.5, 32: 1.45, 64: 1.4, 96: 1.35, 128: 1.3},
}
PEAK_GB = {128: 3.0}
GROWTH_MB = 14.0  # of peak memory, per additional view
MANY_SECONDS = 30.0  # forward of 1000 views
MANY_EXPONENT = 1.85  # of time, from 128 views to 1000
MEMORIES_GB = (24.0, 48.0)  # 1000 views must fit into each
MANY_RUNS = 3


@dataclass(frozen=True)
class Gate:
    """One target and what was measured (None: nothing)."""

    name: str
    target: float
    at_least: bool
    measured: float | None

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        kept = self.measured >= self.target if self.at_least else self.measured <= self.target
        return "kept" if kept else "MISSED"


def judge(
    compared: Mapping[str, Any], many: Mapping[str, Any], confined: Mapping[float, Mapping]
) -> list[Gate]:
    """Hold results of `bench` to the targets.

    Args:
        compared: Result of the student beside the other models.
        many: Result of the student alone at many views.
        confined: The same within a number of GB.
    """
    ratios = {entry["views"]: entry["models"] for entry in compared["ratios"]}
    gates = [
        Gate(f"{model} / student, seconds, {views} views", least, True,
             ratios.get(views, {}).get(model, {}).get("ratio"))
        for model, targets in RATIOS.items()
        for views, least in targets.items()
    ]  # fmt: skip
    student = {row["views"]: row for row in compared["rows"] if row["model"] == STUDENT}
    peaks = {n: row["peak_bytes"] for n, row in sorted(student.items()) if row["peak_bytes"]}
    gates += [
        Gate(f"peak memory, {views} views, GB", most, False,
             peaks[views] / 1e9 if views in peaks else None)
        for views, most in PEAK_GB.items()
    ]  # fmt: skip
    growths = [(b - a) / (m - n) / 1e6 for (n, a), (m, b) in itertools.pairwise(peaks.items())]
    (far,) = many["rows"]
    near = student[max(student)]
    exponent = None
    if near["seconds"] and far["seconds"]:
        exponent = math.log(far["seconds"] / near["seconds"])
        exponent /= math.log(far["views"] / near["views"])
    span = f"{near['views']} to {far['views']} views"
    gates += [
        Gate("memory per additional view, MB", GROWTH_MB, False, max(growths, default=None)),
        Gate(f"{far['views']} views, seconds", MANY_SECONDS, False, far["seconds"]),
        Gate(f"exponent of time, {span}", MANY_EXPONENT, False, exponent),
    ]
    for memory, result in confined.items():
        (row,) = result["rows"]
        fits = {"measured": float(far["views"]), "out of memory": 0.0}.get(row["status"])
        gates.append(Gate(f"views in {memory:g} GB", float(far["views"]), True, fits))
    return gates


def measure(options: argparse.Namespace) -> list[Gate]:
    """Run what is not finished, and judge it."""

    def run(name: str, **values: Any) -> dict[str, Any]:
        print(f"measuring: {name}", flush=True)
        folder = options.folder / name
        common = {key: getattr(options, key) for key in ("size", "preset", "device", "budget")}
        settings = {**common, **values, "output": folder}
        wanted = config.validate(BenchSettings, settings, source="the options")
        try:
            return dict(benchmark(wanted).result)
        except OutOfMemoryError:  # of every row: a result as well, and it has been written
            return json.loads((folder / "run.json").read_text())["result"]

    compared = run("compared", views=options.views, compare=options.compare, runs=options.runs)
    alone = {"views": str(options.many), "warmups": 1}
    many = run("many", **alone, runs=MANY_RUNS)
    confined: dict[float, dict[str, Any]] = {}
    for memory in MEMORIES_GB:  # what fits into less fits into more
        fitting = (found for found in confined.values() if found["rows"][0]["seconds"])
        confined[memory] = next(fitting, None) or run(
            f"within-{memory:g}-gb", **alone, runs=1, memory_gb=memory
        )
    return judge(compared, many, confined)


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description="Hold a GPU to the targets of this project.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--views", default="12..128", help="beside the other models")
    parser.add_argument("--many", type=int, default=1000, help="views of the student alone")
    parser.add_argument("--size", default="378x518")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--compare", default=",".join(RATIOS))
    parser.add_argument("--runs", type=int, help="timed forwards beside the other models")
    parser.add_argument("--budget", type=float, help="seconds of each measurement")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    gates = measure(options)
    for gate in gates:
        sign = ">=" if gate.at_least else "<="
        found = "" if gate.measured is None else f"{gate.measured:.4g}"
        print(f"{gate.name:45} {sign} {gate.target:<6g} {found:>10}  {gate.verdict}")
    found = [{**asdict(gate), "verdict": gate.verdict} for gate in gates]
    write_text(options.folder / "gates.json", json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
