"""A toy family, whose students start without detail in their local maps, and a preset of it."""

from dataclasses import replace
from typing import Literal

import torch
from pydantic.dataclasses import dataclass

from distill3r_core.extend import FAMILIES, PRESETS, STRICT, MultiviewSpec, Preset

MULTIVIEW = FAMILIES["multiview"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FlatSpec(MultiviewSpec):
    family: Literal["flat"] = "flat"
    start: float = 0.0  # factor on the last layer's random weights


def build(spec):
    student = MULTIVIEW.build(spec)
    with torch.no_grad():
        student.local_head.out.weight.mul_(spec.start)
    return student


FAMILIES.add("flat", replace(MULTIVIEW, name="flat", spec=FlatSpec, build=build))
PRESETS.add(
    "flat-tiny",
    Preset(
        summary="a tiny student with a flat start",
        spec={**PRESETS["tiny"].spec, "family": "flat", "start": 0.1},
        size=(28, 42),
        recipe={"data": {"views": 4, "batch": 1}, "schedule": {"steps": 2, "warmup_steps": 1}},
    ),
)
