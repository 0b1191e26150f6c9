"""Arithmetic of a multiview student."""

from distill3r_core.models.multiview.spec import MultiviewSpec
from distill3r_core.models.student import HeadName
from distill3r_core.nn.counts import Dpt, Network, Part, parts


def network_of(spec: MultiviewSpec, head: HeadName = "both") -> Network:
    """The architecture as the formulas see it."""
    return Network(
        patch=spec.encoder.patch,
        encoder_width=spec.encoder.width,
        encoder_depth=spec.encoder.depth,
        extra_tokens=spec.encoder.extra_tokens,
        fusion_width=spec.fusion.width,
        fusion_depth=spec.fusion.depth,
        head=Dpt(spec.heads.layers, spec.heads.features, spec.heads.tail),
        heads=2 if head == "both" else 1,
        stem_width=spec.encoder.stem_width,
    )


def flop_parts(
    spec: MultiviewSpec, views: int, size: tuple[int, int], *, head: HeadName = "both"
) -> tuple[Part, ...]:
    """The parts of one forward pass over `views` views of `size` (rows, columns)."""
    return parts(network_of(spec, head), views, size)
