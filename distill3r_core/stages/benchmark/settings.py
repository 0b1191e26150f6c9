"""Settings of `bench`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.config import STRICT
from distill3r_core.models.families import size_of_some_student
from distill3r_core.models.presets import PRESETS
from distill3r_core.models.student import HeadName
from distill3r_core.profiling import DeviceName
from distill3r_core.runs.student_file import Precision
from distill3r_core.stages.benchmark.budget import parse_views
from distill3r_core.stages.benchmark.models import parse_models
from distill3r_core.teachers.choice import OwnSettings
from distill3r_core.training.settings import Count


def _read_size(text: str) -> tuple[int, int]:
    return size_of_some_student(config.parse_size(text))


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Texts that are parsed later, and validated here.
ViewsText = Annotated[str, config.reads(parse_views)]
SizeText = Annotated[str, config.LOWER, config.reads(_read_size)]
PresetName = Annotated[str, config.reads(PRESETS.__getitem__)]
ModelsText = Annotated[str, config.reads(parse_models)]


@dataclass(frozen=True, config=STRICT)
class BenchSettings:
    """Settings of `bench`: the models, their input, and the budget."""

    views: ViewsText = "12..128"  # A..B: the paper's points; A..B..S: steps; or numbers by commas
    size: SizeText = "378x518"  # rows x columns; a teacher's are rounded to its own patch
    preset: PresetName = "paper"  # of a student with random weights
    model: Path | None = None  # a run or a file to measure instead
    compare: ModelsText = ""  # models beside the student, by commas
    # Settings of teachers among them; each takes those that it has.
    teacher: OwnSettings = Field(default_factory=dict)
    budget: Positive | None = None  # seconds; None: 300, on a GPU no end
    precision: Precision = "auto"  # auto: bfloat16 on a GPU that has it
    head: HeadName = "both"  # of the student; the others are left out
    device: DeviceName = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    warmups: Count | None = None  # of a row; None: 3 on a GPU, else 1
    runs: Count | None = None  # timed, of a row; None: 10 on a GPU, else 5
    memory_gb: Positive | None = None  # as if there were no more (1e9 bytes)
    output: Path | None = None  # None: results/bench/<preset>-NNN, the next number
