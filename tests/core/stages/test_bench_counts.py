"""Counts agree with published totals and with products counted one by one."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from distill3r_core.models import PRESETS, build_student
from distill3r_core.models.families import preset_spec
from distill3r_core.models.multiview.cost import network_of
from distill3r_core.models.multiview.published import published_forward
from distill3r_core.models.pairs.cost import flop_parts
from distill3r_core.models.pairs.published import published_pairs
from distill3r_core.nn.counts import (
    floor_seconds,
    parts,
    total_flop,
)
from distill3r_core.teachers.fast3r_cost import FAST3R_NETWORK

PAPER_STUDENT = network_of(preset_spec("paper"))
MULTIVIEW = [name for name in PRESETS if PRESETS[name].spec["family"] == "multiview"]
STUDENT_SIZE, TEACHER_SIZE = (378, 518), (384, 512)
H200 = {"flop_rate": 790e12, "byte_rate": 4.3e12, "item_bytes": 2}

# TFLOP traced over the original modules, five numbers of views each.
STUDENT = {12: 7.70, 32: 26.43, 64: 71.70, 96: 135.8, 128: 218.7}
TEACHER = {12: 24.71, 32: 103.0, 64: 324.7, 96: 665.2, 128: 1124}


@pytest.mark.parametrize(("views", "tflop"), STUDENT.items())
def test_the_student_takes_the_traced_number_of_flop(views, tflop):
    assert total_flop(parts(PAPER_STUDENT, views, STUDENT_SIZE)) / 1e12 == pytest.approx(
        tflop, rel=1e-3
    )


MULTIVIEW = [name for name in PRESETS if PRESETS[name].spec["family"] == "multiview"]


@pytest.mark.parametrize("head", ["both", "global"])
@pytest.mark.parametrize("preset", MULTIVIEW)
def test_every_preset_takes_the_products_that_its_forward_runs(preset, head):
    student, size = build_student(preset).eval(), (42, 70)

    def traced(views: int) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            published_forward(student, torch.rand(1, views, 3, *size), head=head)
        return counter.get_total_flops()

    # The counter sees convolutions and matrix products, not what attention is made of. One view
    # more than before: what is done once for all of them (a table is resized) falls out.
    counted = [
        part.flop
        for part in parts(network_of(preset_spec(preset), head), 1, size)
        if not part.name.endswith("/attention")
    ]
    assert sum(counted) == pytest.approx(traced(2) - traced(1), rel=1e-9)


@pytest.mark.parametrize("head", ["both", "global", "local"])
@pytest.mark.parametrize(
    "encoder", [{}, {"kind": "cnn"}, {"kind": "vit", "kernel": 14, "layer_scale": True}]
)
def test_a_pair_student_takes_the_products_that_its_forward_runs(encoder, head):
    sizes = {"width": 32, "depth": 1, "heads": 2, "position_grid": 2}
    given = encoder if encoder.get("kind") == "cnn" else {**sizes, **encoder}
    # Of the size of the table of positions, which is therefore not resized.
    student, size = build_student("pair-tiny", encoder=given).eval(), (32, 32)

    def traced(views: int) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            published_pairs(student, torch.rand(1, views, 3, *size), head=head)
        return counter.get_total_flops()

    counted = [
        sum(
            part.flop
            for part in flop_parts(student.spec, views, size, head=head)
            if not part.name.endswith("/attention")
        )
        for views in (1, 2, 3)
    ]
    assert counted == pytest.approx([traced(views) for views in (1, 2, 3)], rel=1e-9)


@pytest.mark.parametrize(("views", "tflop"), TEACHER.items())
def test_the_teacher_takes_the_traced_number_of_flop(views, tflop):
    counted = total_flop(parts(FAST3R_NETWORK, views, TEACHER_SIZE))
    assert counted / 1e12 == pytest.approx(tflop, rel=1e-3)


def test_components_are_those_traced():
    found: dict[str, float] = {}
    for part in parts(PAPER_STUDENT, 12, STUDENT_SIZE):
        component = part.name.partition("/")[0]
        found[component] = found.get(component, 0) + part.flop / 1e12
    assert found["encoder"] == pytest.approx(0.74, abs=0.005)
    assert found["fusion"] == pytest.approx(0.26 + 1.32, abs=0.01)
    assert found["heads"] == pytest.approx(5.38, abs=0.005)


def test_one_head_on_one_view_is_224_gflop():
    heads = [p for p in parts(PAPER_STUDENT, 1, STUDENT_SIZE) if p.name.startswith("heads/")]
    assert sum(p.flop for p in heads) / 2 / 1e9 == pytest.approx(224.2, rel=1e-3)


@pytest.mark.parametrize(("views", "seconds"), {12: 0.0098, 32: 0.0335, 128: 0.277}.items())
def test_the_floor_on_an_h200_is_the_published_one(views, seconds):
    assert floor_seconds(parts(PAPER_STUDENT, views, STUDENT_SIZE), **H200) == pytest.approx(
        seconds, rel=0.02
    )


def test_the_teachers_floor_on_an_h200_is_the_published_one():
    assert floor_seconds(parts(FAST3R_NETWORK, 12, TEACHER_SIZE), **H200) == pytest.approx(
        0.031, rel=0.02
    )


def test_only_attention_over_all_views_grows_faster_than_the_views():
    one, many = (parts(PAPER_STUDENT, n, (224, 518)) for n in (1, 8))
    growth = {a.name: b.flop / a.flop for a, b in zip(one, many, strict=True)}
    assert growth.pop("fusion/attention") == 64
    assert set(growth.values()) == {8.0}
