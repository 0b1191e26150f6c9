"""Build a pair student."""

from torch import nn

from distill3r_core.models.pairs.adapter import Adapter
from distill3r_core.models.pairs.spec import DESCRIPTOR_CHANNELS, PATCH, PairSpec
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.nn.pairs.descriptor_head import DescriptorHead
from distill3r_core.nn.pairs.pair_decoder import PairDecoder


def build_pair_student(spec: PairSpec) -> PairStudent:
    """Build a pair student with random weights."""
    width = spec.decoder.width
    widths = (spec.token_width, width, width, width)
    descriptors = nn.ModuleList(
        DescriptorHead(spec.token_width + width, channels=DESCRIPTOR_CHANNELS, patch_size=PATCH)
        for _ in range(2 if spec.descriptors else 0)
    )
    return PairStudent(
        encoder=spec.encoder.build(),
        adapter=Adapter(spec.encoder.width, width) if spec.adapter else None,
        decoder=PairDecoder(
            spec.token_width,
            width=width,
            depth=spec.decoder.depth,
            heads=spec.decoder.heads,
            mlp_ratio=spec.decoder.mlp_ratio,
        ),
        first_head=spec.heads.build(widths, patch=PATCH),
        second_head=spec.heads.build(widths, patch=PATCH),
        descriptor_heads=descriptors.requires_grad_(False),
        spec=spec,
    )
