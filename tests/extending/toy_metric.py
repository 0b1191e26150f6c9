"""A toy metric, the largest distance to the truth, and a protocol that reports it."""

from dataclasses import replace

from distill3r_core.extend import METRICS, PROTOCOLS, Metric, MetricUnit


def worst(comparison):
    return [float(clouds.accuracy.max()) for clouds in comparison.clouds]


METRICS.add(
    "worst",
    Metric(
        name="worst",
        heading="worst",
        unit=MetricUnit("m", "units of truth"),
        better="lower",
        measure=worst,
        within=max,
        over=max,
    ),
)
PROTOCOLS.add(
    "extremes",
    replace(PROTOCOLS["table2"], name="extremes", metrics=("acc", "worst"), published={}),
)
