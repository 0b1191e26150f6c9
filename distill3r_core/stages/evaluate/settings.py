"""The settings of an evaluation."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.config import STRICT
from distill3r_core.data.layouts import AUTO, check_layout
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.profiling import DeviceName

ModelName = Annotated[str, BeforeValidator(lambda model: str(model))]  # a path is a name too


@dataclass(frozen=True, config=STRICT)
class EvalSettings:
    """What is scored, and against what."""

    # Runs, weight files and names of models; the first is compared with the others. Empty: the
    # newest run, where one is needed.
    models: tuple[ModelName, ...] = ()
    data: Path | None = None  # with ground truth; None: the run's validation samples
    layout: Annotated[str, config.reads(check_layout)] = AUTO  # of `data`
    protocol: Annotated[str, config.reads(PROTOCOLS.__getitem__)] = "table2"
    predict: Literal["student", "truth", "constant"] = "student"
    size: Annotated[str, config.LOWER, config.reads(config.parse_size)] | None = (
        None  # grid of maps that come from no model; None: the protocol's
    )
    device: DeviceName = "auto"
    output: Path | None = None  # None: results/eval/<run>-<data>-<protocol>
