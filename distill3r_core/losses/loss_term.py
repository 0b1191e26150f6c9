"""What a term of the training objective is: its record, its options, and its inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, runtime_checkable

from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from distill3r_core.config import STRICT
from distill3r_core.types import PointMaps, TeacherTargets


@checked_dataclass(frozen=True, config=STRICT, kw_only=True)
class TermOptions:
    """Settings of a term. A term with settings of its own derives a frozen dataclass from it.

    Args:
        weight: Factor of the term in the objective; 0 leaves the term out.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True)
class TermInputs:
    """What a term may read of a batch; all tensors have the leading axes (B, N).

    Args:
        student_features: Outputs of the student's submodules by name, for those that a term asks
            for, as the submodule returns them.
    """

    predicted: PointMaps
    targets: TeacherTargets  # maps of the teacher. Only pixels in their `valid_mask` count
    teacher_features: Mapping[str, Float[Tensor, "B N h w C"]] = field(default_factory=dict)
    student_features: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class PreparedTerm(Protocol):
    """A term whose parameters depend on the student and on the teacher's features."""

    def prepare(self, student: Mapping[str, Any], teacher: Mapping[str, int]) -> None:
        """Build the parameters.

        Args:
            student: Outputs of the student's submodules in some pass, those that it asked for.
            teacher: Channels of the teacher's layers that it asked for.
        """
        ...


class Term(Protocol):
    """Computes a term, without its weight. An `nn.Module` may have parameters of its own (a
    projector of features): they are trained beside the student and are no part of it.
    """

    def __call__(self, inputs: TermInputs, /) -> Float[Tensor, ""]: ...


@dataclass(frozen=True)
class FeatureRequest:
    """The features that a term reads.

    Args:
        teacher: Layers of the teacher, as the cache or the teacher's encoder calls them.
        student: Submodules of the student, as `nn.Module.get_submodule` takes them.
    """

    teacher: tuple[str, ...] = ()
    student: tuple[str, ...] = ()


@dataclass(frozen=True)
class LossTerm:
    """A term of the training objective.

    Args:
        features: The features that the term reads with these options.
        local: It reads the student's local maps, which students of scenes have none of.
    """

    label: str  # name for people, in progress and charts ("global points")
    summary: str  # what the term measures, in one sentence
    build: Callable[[Any], Term]
    options: type[TermOptions] = TermOptions
    features: Callable[[Any], FeatureRequest] = lambda options: FeatureRequest()
    local: bool = False
