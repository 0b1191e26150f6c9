"""From a spec to a student."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from distill3r_core.config import merge
from distill3r_core.models.dune_encoder import LAYER_SCALE, DuneEncoder
from distill3r_core.models.spec import PATCH, SPECS, StudentSpec
from distill3r_core.models.stem import ConvolutionalStem
from distill3r_core.models.student import Student
from distill3r_core.nn.dpt import DPTHead
from distill3r_core.nn.encoder import PatchEmbed, RotaryEncoder
from distill3r_core.nn.fusion import Fusion

TIMM_NAMES = {
    "dune_vits14": "vit_small_patch14_reg4_dinov2",
    "dune_vitb14": "vit_base_patch14_reg4_dinov2",
}


def build_student(preset: str = "paper", **overrides: Any) -> Student:
    """A student with random weights.

    Args:
        preset: paper, small or tiny.
        overrides: Fields of `StudentSpec` that differ from the preset's.

    Raises:
        ConfigError: No such preset or field.
    """
    values = merge(SPECS[preset].as_plain(), overrides)
    return build_from_spec(StudentSpec.from_plain(values))


def build_from_spec(spec: StudentSpec) -> Student:
    """A student with random weights, from all of its numbers."""
    return Student(
        encoder=build_encoder(spec),
        fusion=Fusion(
            spec.encoder_width,
            width=spec.fusion_width,
            depth=spec.fusion_depth,
            heads=spec.fusion_heads,
            attention_scale=spec.attention_scale,
        ),
        global_head=_build_head(spec),
        local_head=_build_head(spec),
        spec=spec,
    )


def expected_tensors(spec: StudentSpec) -> dict[str, Tensor]:
    """Names and shapes of a student's weights, without memory behind them."""
    with torch.device("meta"):
        return build_from_spec(spec).state_dict()


def build_encoder(spec: StudentSpec) -> DuneEncoder | RotaryEncoder:
    """The encoder of a spec, with random weights. Importing timm for DUNE's takes seconds."""
    if spec.encoder in TIMM_NAMES:
        return _build_dune(spec)
    width = spec.encoder_width
    embed = PatchEmbed(PATCH, width) if spec.stem == "patch" else ConvolutionalStem(width)
    return RotaryEncoder(embed, width=width, depth=spec.encoder_depth, heads=spec.encoder_heads)


def _build_dune(spec: StudentSpec) -> DuneEncoder:
    import timm  # 6 to 11 seconds: only where it is used

    vit: Any = timm.create_model(  # its parts are typed as any module
        TIMM_NAMES[spec.encoder],
        pretrained=False,
        num_classes=0,
        img_size=PATCH * spec.position_grid,
        dynamic_img_size=True,
        embed_dim=spec.encoder_width,
        depth=spec.encoder_depth,
        num_heads=spec.encoder_heads,
        init_values=LAYER_SCALE,
    )
    return DuneEncoder(
        vit.patch_embed.proj,
        nn.ModuleList(vit.blocks),
        vit.norm,
        width=spec.encoder_width,
        grid=spec.position_grid,
    )


def _build_head(spec: StudentSpec) -> DPTHead:
    fused = spec.fusion_width
    head = DPTHead(
        (spec.encoder_width, fused, fused, fused),
        patch_size=PATCH,
        features=spec.head_features,
        layer_widths=spec.head_layers,
        tail_width=spec.head_tail,
        spare_unit=spec.spare_parameters,
    )
    if spec.initial_depth is not None:
        assert head.out.bias is not None
        with torch.no_grad():  # a point's distance is exp(|v|) - 1
            head.out.bias.copy_(torch.tensor([0.0, 0.0, math.log1p(spec.initial_depth), 0.0]))
    return head
