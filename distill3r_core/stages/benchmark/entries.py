"""Who runs in a benchmark: the student, and those it is compared with."""

from dataclasses import dataclass
from pathlib import Path

import torch

from distill3r_core.errors import ConfigError, InputMissingError, RequestError
from distill3r_core.models import SPECS
from distill3r_core.models.student import HeadName
from distill3r_core.stages.benchmark.budget import nearest_multiple
from distill3r_core.stages.benchmark.counts import FAST3R, Network, total_flop
from distill3r_core.stages.benchmark.forwards import (
    MODELS,
    STUDENT,
    TEACHER,
    TEACHER_REFERENCE,
    Subject,
    network_of,
    spec_of,
)


@dataclass(frozen=True)
class Contender:
    """A model with its input size and its arithmetic.

    Args:
        subject: What is built.
        network: As the counts see it.
        size: Rows and columns of its views.
    """

    subject: Subject
    network: Network
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """As in the rows of the result."""
        return self.subject.name

    def flop(self, views: int) -> float:
        """Multiplies and adds of one forward."""
        return total_flop(self.network, views, self.size)


def parse_models(text: str) -> tuple[str, ...]:
    """The models that stand beside the student, in the order in which they are named.

    Args:
        text: Names by commas, or "".

    Raises:
        ConfigError: A name is unknown, stands there twice, or is the student's own.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        MODELS[name]  # an unknown name fails here, with the nearest one
    if len({STUDENT, *names}) <= len(names):
        raise ConfigError(f"a model is named twice in {text!r}, or the student, which is there")
    return names


def contenders(
    *,
    model: Path | None,
    preset: str,
    compare: str,
    size: tuple[int, int],
    device: torch.device,
    precision: str,
    head: HeadName = "both",
) -> tuple[Contender, ...]:
    """The student first, then those it is compared with, in the order in which they are named.

    Args:
        model: A run or a file; None: `preset` with random weights.
        preset: Of the student.
        compare: Names by commas, or "".
        size: Of the student's views; a teacher's is the nearest that its patches allow.
        device: Where they run.
        precision: float32 or bfloat16.
        head: Which of the student's heads run. Teachers have both.

    Raises:
        ConfigError: An unknown preset or model, or one that is named twice or is the student.
        InputMissingError: There is no such `model`.
        RequestError: A teacher is beside one head alone.
    """
    names = (STUDENT, *parse_models(compare))
    if model is not None and not model.exists():
        raise InputMissingError(f"no model {model}", hint="a run folder, or a .safetensors file")
    student = network_of(SPECS[preset] if model is None else spec_of(model), head)
    found = []
    for name in names:
        taught = name in (TEACHER, TEACHER_REFERENCE)
        if taught and head != "both":
            raise RequestError(
                f"{name} runs both heads: beside the {head} one alone its ratio says nothing",
                hint="leave out --head, or compare with student-reference",
            )
        network = FAST3R if taught else student
        subject = Subject(name, preset, model, device, precision, head)
        found.append(Contender(subject, network, nearest_multiple(size, network.patch)))
    return tuple(found)
