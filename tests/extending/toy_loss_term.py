"""A toy loss term: the difference of neighboring depths, weighted by a power."""

from pydantic.dataclasses import dataclass

from distill3r_core.extend import LOSS_TERMS, STRICT, LossTerm, TermOptions


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SmoothnessOptions(TermOptions):
    power: float = 1.0


def build(options):
    def smoothness(inputs):
        depth = inputs.predicted.points_local[..., 2]
        return (depth[..., 1:] - depth[..., :-1]).abs().pow(options.power).mean()

    return smoothness


LOSS_TERMS.add(
    "smoothness",
    LossTerm(
        label="smoothness",
        summary="Mean difference of neighboring depths of the student.",
        options=SmoothnessOptions,
        build=build,
    ),
)
