"""Hold a GPU's measurements to what this project promises: time against the teacher, memory, views.

All that has to be measured runs behind one command, so that whoever has the GPU needs nothing else.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config
from distill3r_core.config import STRICT
from distill3r_core.errors import OutOfMemoryError
from distill3r_core.nn.view_codes import TABLE_ROWS
from distill3r_core.profiling import DeviceName, pick_device
from distill3r_core.report import Progress, Report, Silent, Table
from distill3r_core.results import read_record
from distill3r_core.stages.benchmark.budget import parse_views
from distill3r_core.stages.benchmark.forward_report import CHART
from distill3r_core.stages.benchmark.forwards import REFERENCE, STUDENT, TEACHER, TEACHER_REFERENCE
from distill3r_core.stages.benchmark.result_folder import Place, place_for
from distill3r_core.stages.benchmark.run_benchmark import benchmark
from distill3r_core.stages.benchmark.settings import (
    BenchSettings,
    ModelsText,
    Positive,
    PresetName,
    SizeText,
    ViewsText,
)
from distill3r_core.stages.benchmark.timing import MEASURED, NO_MEMORY
from distill3r_core.training.settings import Count

# How many times longer the compared model takes, by number of views.
AGAINST_TEACHER = {12: 4.0, 32: 4.7, 64: 5.2, 96: 5.5, 128: 5.8}
SAME_KERNELS = {12: 3.0, 32: 3.6, 64: 4.1, 96: 4.5, 128: 4.7}  # 0.9 of the ratio of their FLOP
AGAINST_REFERENCE = {12: 1.5, 32: 1.45, 64: 1.4, 96: 1.35, 128: 1.3}
PEAK_GB = {128: 3.0}
GROWTH_MB = 14.0  # of peak memory, for each view more
MANY_SECONDS = 30.0  # of the forward of 1000 views, on an H200
MANY_EXPONENT = 1.85  # of time, from 128 views to 1000
MEMORIES_GB = (24.0, 48.0)  # in which 1000 views have to fit
FEW_RUNS = 3


@checked_dataclass(frozen=True, config=STRICT)
class GateSettings:
    """What is measured. The gates are for preset `paper` at 378x518 on an H200."""

    views: ViewsText = "12..128"  # beside the teacher
    many: Annotated[int, Field(ge=2, le=TABLE_ROWS)] = TABLE_ROWS  # of the student alone
    size: SizeText = "378x518"
    preset: PresetName = "paper"
    compare: ModelsText = f"{TEACHER_REFERENCE},{TEACHER},{REFERENCE}"
    runs: Count | None = None  # timed, beside the teacher; None: as `bench`
    budget: Positive | None = None  # seconds of each of the four measurements; None: as `bench`
    device: DeviceName = "auto"
    output: Path | None = None  # None: results/bench/gates-NNN, the next number


@dataclass(frozen=True)
class Gate:
    """One promise.

    Args:
        name: What is promised.
        wanted: The least, or the most, that keeps it.
        at_least: Whether `wanted` is the least.
        measured: None where it was not measured.
    """

    name: str
    wanted: float
    at_least: bool
    measured: float | None

    @property
    def kept(self) -> bool | None:
        """Whether it is; None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


def measure_gates(
    settings: GateSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Run all measurements, and hold them to the gates.

    Args:
        settings: What is measured. Measurements that are finished in its folder are kept.
        overwrite: Replace another result in `settings.output`.
        progress: Reports every forward.

    Raises:
        ConfigError: Views, size, preset or a model's name do not fit.
        ConflictError: `settings.output` holds another result.
        DeviceError: The device is not there.
    """
    progress = progress or Silent()
    device, plain = pick_device(settings.device), config.as_plain(settings)
    place = place_for("gates", plain, chosen=settings.output, device=device, overwrite=overwrite)
    if place.finished:
        return _report(settings, place, place.result())
    common = {
        "size": settings.size,
        "preset": settings.preset,
        "device": settings.device,
        "budget": settings.budget,
    }

    def run(name: str, **values: Any) -> dict[str, Any]:
        progress.note(f"measuring: {name}")
        wanted = BenchSettings(**common, **values, output=place.folder / name)
        try:  # what else lies there belongs to a result that has been given up above
            return dict(benchmark(wanted, overwrite=True, progress=progress).result)
        except OutOfMemoryError:  # every row of it: a finding, and it has been written
            return read_record(place.folder / name)["result"]

    beside = run("compared", views=settings.views, compare=settings.compare, runs=settings.runs)
    many = run("many", views=str(settings.many), warmups=1, runs=FEW_RUNS)
    confined: dict[float, dict[str, Any]] = {}
    for memory in MEMORIES_GB:
        # What fits into less fits into more.
        smaller = next((found for found in confined.values() if _fits(found)), None)
        confined[memory] = smaller or run(
            f"within-{memory:g}-gb", views=str(settings.many), warmups=1, runs=1, memory_gb=memory
        )
    gates = judge(
        beside, many, confined, views=parse_views(settings.views), many_views=settings.many
    )
    result = {
        "gates": [{**asdict(gate), "kept": gate.kept} for gate in gates],
        # Else "kept" says how this compares with what was promised of something else.
        "as_promised": _is_promised(settings, beside["header"]),
        "header": beside["header"],
        "measured": {"compared": beside, "many": many},
    }
    place.keep(result)
    return _report(settings, place, result)


def _report(settings: GateSettings, place: Place, result: Mapping[str, Any]) -> Report:
    return place.report(
        config.as_plain(settings),
        result,
        tables=[_table(settings, result["gates"], result["header"])],
        notes=_notes(settings, result["header"]),
        files=[f"compared/{CHART}"],
    )


def _fits(confined: Mapping[str, Any]) -> bool:
    return confined["rows"][0]["status"] == MEASURED


def judge(
    beside: Mapping[str, Any],
    many: Mapping[str, Any],
    confined: Mapping[float, Mapping[str, Any]],
    *,
    views: Sequence[int],
    many_views: int,
) -> list[Gate]:
    """The gates with what was measured.

    Args:
        beside: Result of the benchmark beside the teacher.
        many: Of the student alone at many views.
        confined: The same, with so many GB of memory.
        views: The numbers of views of `beside`.
        many_views: Of `many`.
    """
    ratios = {entry["views"]: entry["models"] for entry in beside["ratios"]}
    gates = []
    for model, wanted, words in (
        (TEACHER_REFERENCE, AGAINST_TEACHER, "teacher as published / student, seconds"),
        (TEACHER, SAME_KERNELS, "teacher on the student's blocks / student, seconds"),
        (REFERENCE, AGAINST_REFERENCE, "published order / student, seconds"),
    ):
        for count, least in wanted.items():
            found = ratios.get(count, {}).get(model, {}).get("ratio")
            gates.append(Gate(f"{words}, {count} views", least, True, found))
    student = {row["views"]: row for row in beside["rows"] if row["model"] == STUDENT}
    for count, most in PEAK_GB.items():
        peak = student.get(count, {}).get("peak_bytes")
        gates.append(
            Gate(
                f"peak memory, {count} views, GB", most, False, None if peak is None else peak / 1e9
            )
        )
    (far,) = many["rows"]
    gates.append(Gate("memory for each view more, MB", GROWTH_MB, False, _growth(student, views)))
    gates.append(Gate(f"{many_views} views, seconds", MANY_SECONDS, False, far["seconds"]))
    gates.append(
        Gate(
            f"exponent of time, {views[-1]} to {many_views} views",
            MANY_EXPONENT,
            False,
            _exponent(student.get(views[-1]), far),
        )
    )
    for memory, result in confined.items():
        (row,) = result["rows"]
        fits = {MEASURED: float(many_views), NO_MEMORY: 0.0}.get(row["status"])
        gates.append(Gate(f"views in {memory:g} GB", float(many_views), True, fits))
    return gates


def _growth(student: Mapping[int, Mapping[str, Any]], views: Sequence[int]) -> float | None:
    """Megabytes of peak memory for each view more, where it grows fastest."""
    peaks = [(n, student[n]["peak_bytes"]) for n in views if student.get(n, {}).get("peak_bytes")]
    growths = [
        (high - low) / (more - few) / 1e6 for (few, low), (more, high) in itertools.pairwise(peaks)
    ]
    return max(growths, default=None)


def _exponent(near: Mapping[str, Any] | None, far: Mapping[str, Any]) -> float | None:
    if near is None or near["seconds"] is None or far["seconds"] is None:
        return None
    return math.log(far["seconds"] / near["seconds"]) / math.log(far["views"] / near["views"])


def _table(
    settings: GateSettings, gates: Sequence[Mapping[str, Any]], header: Mapping[str, Any]
) -> Table:
    verdicts: dict[bool | None, str] = {True: "kept", False: "MISSED", None: "not measured"}
    if not _is_promised(settings, header):
        verdicts |= {True: "reached, not asked", False: "not reached, not asked"}
    rows = tuple(
        (
            gate["name"],
            f"{'at least' if gate['at_least'] else 'at most'} {gate['wanted']:g}",
            "" if gate["measured"] is None else f"{gate['measured']:.4g}",
            verdicts[gate["kept"]],
        )
        for gate in gates
    )
    return Table(
        f"gates · {header['name']} · {header['precision']}", ("", "gate", "measured", ""), rows
    )


def _is_promised(settings: GateSettings, header: Mapping[str, Any]) -> bool:
    """Whether what was measured is what the gates are about."""
    as_promised = (GateSettings().size, GateSettings().preset) == (settings.size, settings.preset)
    return header["device"] == "cuda" and as_promised


def _notes(settings: GateSettings, header: Mapping[str, Any]) -> list[str]:
    if _is_promised(settings, header):
        return []
    return ["the gates are for preset paper at 378x518 on a GPU (seconds: an H200)"]
