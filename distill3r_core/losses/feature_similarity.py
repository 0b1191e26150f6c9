"""Terms that compare tokens of the student with the teacher's (arXiv:2607.01851).

`feature`: each token of the student, mapped to the teacher's channels by a linear layer that is
trained beside it, points the way the teacher's does. `relational`: tokens of two views are as
similar to each other as the teacher's.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, log_softmax, normalize, softmax

from distill3r_core.config import STRICT
from distill3r_core.errors import ConfigError
from distill3r_core.losses.loss_term import FeatureRequest, LossTerm, TermInputs, TermOptions

TEACHER_LAYER = "enc_norm"  # last layer of the pair teachers' encoder
STUDENT_LAYER = "adapter"  # of the pair students
_SLOPE = 0.01  # Kaiming's, of the projector


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FeatureOptions(TermOptions):
    """Options of the terms that compare tokens.

    Args:
        teacher: Layer of the teacher.
        student: Submodule of the student whose output is compared.
    """

    teacher: str = TEACHER_LAYER
    student: str = STUDENT_LAYER


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SimilarityOptions(FeatureOptions):
    """Options of `feature`.

    Args:
        threshold: Cosine from which a token counts as learned and is left out.
    """

    threshold: Annotated[float, Field(gt=-1, le=1)] = 0.9


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RelationOptions(FeatureOptions):
    """Options of `relational`.

    Args:
        temperature: What similarities are divided by before the softmax.
        tokens: Most tokens of a view that are compared, evenly spread.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.1
    tokens: Annotated[int, Field(ge=2)] = 512


class FeatureSimilarity(nn.Module):
    """One minus the mean cosine of the tokens that are not yet learned; 0 where there are none.

    Its projector is built by `prepare`, when the channels of both sides are known.
    """

    def __init__(self, options: SimilarityOptions) -> None:
        super().__init__()
        self.options = options
        self.projector: nn.Linear | None = None

    def prepare(self, student: Mapping[str, Any], teacher: Mapping[str, int]) -> None:
        """Build the projector.

        Args:
            student: Outputs of the student's submodules in some pass.
            teacher: Channels of the teacher's layers.
        """
        width = tokens_in(student, self.options.student).shape[-1]
        self.projector = nn.Linear(width, teacher[self.options.teacher], bias=False)
        nn.init.kaiming_uniform_(self.projector.weight, a=_SLOPE)

    def forward(self, inputs: TermInputs) -> Float[Tensor, ""]:
        """Mean over the samples."""
        assert self.projector is not None, "the term was not prepared"
        tokens = grid_of(inputs, self.options.student)  # (B, N, h, w, C)
        wanted = inputs.teacher_features[self.options.teacher].to(tokens.dtype)
        sides = self.projector(tokens), resized(wanted, (tokens.shape[2], tokens.shape[3]))
        each = [
            similarity(mine, teacher, threshold=self.options.threshold)
            for mine, teacher in zip(*sides, strict=True)
        ]
        return torch.stack(each).mean()


def similarity(
    found: Float[Tensor, "*axes C"], wanted: Float[Tensor, "*axes C"], *, threshold: float
) -> Float[Tensor, ""]:
    """One minus the mean cosine of the tokens below the threshold; 0 where there are none."""
    cosine = cosine_similarity(found, wanted, dim=-1)
    counts = cosine.detach() < threshold
    # A product with the mask keeps the graph where no token counts.
    number = counts.sum().clamp(min=1)
    return torch.where(counts, 1 - cosine, 0.0).sum() / number


def relation(options: RelationOptions, inputs: TermInputs) -> Float[Tensor, ""]:
    """KL divergence of the teacher's from the student's similarities of anchor and other views.

    Each row is a token of the anchor, its softmax runs over the tokens of the other view.
    """
    tokens = grid_of(inputs, options.student)
    wanted = inputs.teacher_features[options.teacher].to(tokens.dtype)
    wanted = resized(wanted, (tokens.shape[2], tokens.shape[3]))
    student, teacher = tokens.flatten(2, 3), wanted.flatten(2, 3)  # (B, N, P, channels)
    count = student.shape[2]
    if count > options.tokens:
        places = torch.linspace(0, count - 1, options.tokens, device=student.device)
        places = places.round().long()
        student, teacher = student[:, :, places], teacher[:, :, places]
    return relation_divergence(student, teacher, temperature=options.temperature)


def relation_divergence(
    student: Float[Tensor, "B N P C"], teacher: Float[Tensor, "B N P D"], *, temperature: float
) -> Float[Tensor, ""]:
    """Mean over the anchor's tokens and the other views of KL(teacher, student)."""

    def scores(tokens: Tensor) -> Float[Tensor, "B V P P"]:
        unit = normalize(tokens, dim=-1)
        return unit[:, :1] @ unit[:, 1:].mT / temperature

    wanted = scores(teacher)
    target, wanted = log_softmax(wanted, -1), softmax(wanted, -1)
    found = log_softmax(scores(student), -1)
    return (wanted * (target - found)).sum(-1).mean()


def tokens_in(outputs: Mapping[str, Any], name: str) -> Float[Tensor, "n P C"]:
    """The tokens that a submodule of the student gave.

    Raises:
        ConfigError: Its output is no tokens of views.
    """
    found = outputs[name]
    if not isinstance(found, Tensor) or found.ndim != 3:
        raise ConfigError(
            f"loss.terms: {name!r} gives no tokens of views, which a term of features compares",
            hint="name another submodule of the student, such as encoder",
        )
    return found


def grid_of(inputs: TermInputs, name: str) -> Float[Tensor, "B N h w C"]:
    """A submodule's tokens on the grid of patches of each view."""
    maps = inputs.targets.valid_mask
    batch, views, height, width = maps.shape
    tokens = tokens_in(inputs.student_features, name)
    # Cosines are compared in float32 where the pass ran in bfloat16.
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    side = math.sqrt(height * width / tokens.shape[1])
    grid = (round(height / side), round(width / side))
    return tokens.reshape(batch, views, *grid, tokens.shape[-1])


def resized(
    features: Float[Tensor, "B N h w C"], grid: tuple[int, int]
) -> Float[Tensor, "B N _ _ C"]:
    """Features on another grid, bilinearly; as they are where it is theirs."""
    if (features.shape[2], features.shape[3]) == grid:
        return features
    flat = features.flatten(0, 1).movedim(-1, 1)
    moved = interpolate(flat, grid, mode="bilinear", align_corners=False)
    return moved.movedim(1, -1).unflatten(0, features.shape[:2])


def _request(options: FeatureOptions) -> FeatureRequest:
    return FeatureRequest((options.teacher,), (options.student,))


FEATURES = LossTerm(
    label="features",
    summary="One minus the cosine of student and teacher tokens that are not yet learned.",
    options=SimilarityOptions,
    build=FeatureSimilarity,
    features=_request,
)
RELATIONS = LossTerm(
    label="relations",
    summary="Divergence of the similarities between the tokens of two views from the teacher's.",
    options=RelationOptions,
    build=lambda options: partial(relation, options),
    features=_request,
)
