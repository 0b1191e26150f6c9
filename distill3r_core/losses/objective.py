"""The training objective: a weighted sum of named terms."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field, SerializeAsAny, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor, nn

from distill3r_core.config import STRICT
from distill3r_core.errors import ConfigError
from distill3r_core.losses.confidence import ConfidenceOptions
from distill3r_core.losses.loss_term import (
    FeatureRequest,
    PreparedTerm,
    Term,
    TermInputs,
    TermOptions,
)
from distill3r_core.losses.points import PointsOptions, Weighting
from distill3r_core.losses.reduction import Reduction
from distill3r_core.losses.regression import RegressionOptions
from distill3r_core.losses.terms import LOSS_TERMS
from distill3r_core.problems import format_value, problems_of
from distill3r_core.types import PointMaps, TeacherTargets


def _read_terms(value: Any) -> Any:
    """Options by term; each is checked by the type that its term names, all problems at once."""
    if not isinstance(value, Mapping):
        return value
    terms: dict[Any, Any] = {}
    problems: list[str] = []
    for name, options in value.items():
        try:
            of_term = LOSS_TERMS[name].options
        except ConfigError as error:
            problems.append(f"{error.message} ({error.hint})")
            continue
        if not isinstance(options, Mapping | TermOptions):
            problems.append(
                f"{name}: {format_value(options)} is not a mapping, such as {{weight: 0.1}}"
            )
            continue
        try:
            terms[name] = TypeAdapter(of_term).validate_python(options)
        except ValidationError as error:
            assert isinstance(options, Mapping)  # options that were made before are valid
            problems += [
                f"{name}{'.' if problem.key else ''}{problem.key}: {problem.message}"
                for problem in problems_of(of_term, options, error)
            ]
    if problems:
        raise ValueError("; ".join(problems))
    return terms


Weight = Annotated[float, Field(ge=0)]
Terms = Annotated[dict[str, SerializeAsAny[TermOptions]], BeforeValidator(_read_terms)]


@checked_dataclass(frozen=True, config=STRICT)
class LossSettings:
    """Settings of the objective: those of `DistillationLoss`, and further terms.

    Args:
        alpha_global: Weight of the term `points_global`; 0 leaves it out, as with the others.
        metric: Teach the student the size of its targets too, by the term `scale` (or by
            `regression`, which compares points in their unit, where `scale` has weight 0), so that
            its points are in meters; None: a training run decides by its caches, and an objective
            that is built without one leaves it out.
        terms: Weight and options of further terms by name. A term of the keys above that is named
            here takes nothing from them.
    """

    alpha_global: Weight = 2.0
    alpha_local: Weight = 1.0
    gamma: Weight = 0.001
    weighting: Weighting = "paper"  # see `PointsOptions`
    reduction: Reduction = "paper"  # see `PointsOptions` and `ConfidenceOptions`
    metric: bool | None = None
    terms: Terms = field(default_factory=dict)

    @property
    def all_terms(self) -> dict[str, TermOptions]:
        """Options of every term of the objective, by name."""
        points = PointsOptions(weighting=self.weighting, reduction=self.reduction)
        return {
            "points_global": replace(points, weight=self.alpha_global),
            "points_local": replace(points, weight=self.alpha_local),
            "confidence": ConfidenceOptions(weight=self.gamma, reduction=self.reduction),
            **({"scale": TermOptions()} if self.metric else {}),
            **self.terms,
        }

    @property
    def teaches_scale(self) -> bool:
        """Whether the term `scale` is part of the objective."""
        scale = self.all_terms.get("scale")
        return scale is not None and scale.weight > 0

    @property
    def teaches_size(self) -> bool:
        """Whether some term draws the student's points to the size of the targets."""
        if self.teaches_scale:
            return True
        points = self.all_terms.get("regression")
        return isinstance(points, RegressionOptions) and not points.normalize and points.weight > 0


@dataclass(frozen=True)
class LossTerms:
    """The loss of a batch and its terms.

    Args:
        parts: Value of every term by name, its weight applied. A part is an attribute as well
            (`loss_terms.points_global`).
    """

    total: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]

    def __getattr__(self, name: str) -> Float[Tensor, ""]:
        try:
            return self.__dict__["parts"][name]
        except KeyError:
            raise AttributeError(f"the loss has no term {name!r}") from None


class Objective(nn.Module):
    """A weighted sum of terms.

    Args:
        terms: Options of each term by name; terms of weight 0 are not computed.

    Raises:
        ConfigError: There is no term of that name, or every weight is 0.
    """

    def __init__(self, terms: Mapping[str, TermOptions]) -> None:
        super().__init__()
        self.options = dict(terms)
        self.labels = {name: LOSS_TERMS[name].label for name in terms}
        self._terms: dict[str, Term] = {}
        teacher, student = dict[str, None](), dict[str, None]()  # as ordered sets
        for name, options in terms.items():
            if options.weight == 0:
                continue
            record = LOSS_TERMS[name]
            term = self._terms[name] = record.build(options)
            if isinstance(term, nn.Module):
                self.add_module(name, term)
            request = record.features(options)
            teacher |= dict.fromkeys(request.teacher)
            student |= dict.fromkeys(request.student)
        if not self._terms:
            raise ConfigError(
                f"every term of the objective has weight 0: {', '.join(terms)}",
                hint="give one of them a weight, for example loss.alpha_global",
            )
        self.features = FeatureRequest(tuple(teacher), tuple(student))

    def prepare(self, student: Mapping[str, Any], teacher: Mapping[str, int]) -> None:
        """Build the parameters of terms that depend on what they read; see `PreparedTerm`."""
        for term in self._terms.values():
            if isinstance(term, PreparedTerm):
                term.prepare(student, teacher)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms in order, those of weight 0 included."""
        return tuple(self.options)

    def forward(
        self,
        predicted: PointMaps,
        targets: TeacherTargets,
        *,
        teacher_features: Mapping[str, Float[Tensor, "B N h w C"]] = MappingProxyType({}),
        student_features: Mapping[str, Any] = MappingProxyType({}),
    ) -> LossTerms:
        """The loss of a batch; terms of weight 0 are reported as 0.

        Args:
            predicted: Maps of the student, with leading axes (B, N).
            teacher_features: See `TermInputs`; at least the layers in `features`.
            student_features: See `TermInputs`; at least the submodules in `features`.
        """
        inputs = TermInputs(predicted, targets, teacher_features, student_features)
        parts = {
            name: self.options[name].weight * term(inputs) for name, term in self._terms.items()
        }
        first, *others = parts.values()
        total = sum(others, start=first)
        zero = torch.zeros_like(total)
        return LossTerms(total, {name: parts.get(name, zero) for name in self.options})
