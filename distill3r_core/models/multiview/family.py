"""The record of the multiview family."""

from dataclasses import replace
from pathlib import Path

from distill3r_core.models.encoders import dune_weights
from distill3r_core.models.encoders.dune import DuneSpec
from distill3r_core.models.encoders.dune_files import fill_encoder, read_dune
from distill3r_core.models.encoders.dune_network import DuneEncoder
from distill3r_core.models.family import CheckpointFormat, Cost, Family, Initializer, ViewLimits
from distill3r_core.models.multiview.chunks import head_chunk_of
from distill3r_core.models.multiview.cost import flop_parts
from distill3r_core.models.multiview.map_size import MapSize
from distill3r_core.models.multiview.memory import estimate_bytes
from distill3r_core.models.multiview.original_checkpoint import lightning_content, read_lightning
from distill3r_core.models.multiview.published import published_forward
from distill3r_core.models.multiview.spec import MultiviewSpec
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.nn.fusion import Fusion
from distill3r_core.nn.view_codes import TABLE_ROWS


def build(spec: MultiviewSpec) -> MultiviewStudent:
    """Build a student with random weights."""
    spec = spec.settled()
    fused = spec.fusion.width
    widths = (spec.encoder.width, fused, fused, fused)
    return MultiviewStudent(
        encoder=spec.encoder.build(),
        fusion=Fusion(
            spec.encoder.width,
            width=spec.fusion.width,
            depth=spec.fusion.depth,
            heads=spec.fusion.heads,
            attention_scale=spec.attention_scale,
        ),
        global_head=spec.heads.build(widths, patch=spec.encoder.patch),
        local_head=spec.heads.build(widths, patch=spec.encoder.patch),
        map_size=MapSize(fused) if spec.map_size == "predicted" else None,
        spec=spec,
    )


def student_on_dune(path: Path, spec: MultiviewSpec) -> MultiviewStudent:
    """Build a student whose encoder is a published one; fusion and heads are random.

    Args:
        path: `dune_vitsmall14_448.pth` or one of its siblings, which decides about the encoder.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or its tensors are not DUNE's.
    """
    file = read_dune(path)
    encoder = file.encoder_spec(depth=spec.encoder.depth)
    student = build(replace(spec, encoder=encoder, normalization="imagenet"))
    assert isinstance(student.encoder, DuneEncoder)
    fill_encoder(student.encoder, file.state, path)
    return student


DUNE = Initializer(
    name="DUNE",
    find=dune_weights.find_dune,
    missing=dune_weights.DUNE_FILES[dune_weights.DEFAULT_DUNE].missing,
    build=student_on_dune,
    license=dune_weights.LICENSE,
)

MULTIVIEW = Family(
    name="multiview",
    spec=MultiviewSpec,
    build=build,
    multiple=lambda spec: spec.encoder.patch,
    cost=Cost(flop=flop_parts, memory=estimate_bytes, head_chunk=head_chunk_of),
    views=ViewLimits(maximum=TABLE_ROWS),
    initializers=lambda spec: (DUNE,) if isinstance(spec.encoder, DuneSpec) else (),
    published=published_forward,
    checkpoints=(CheckpointFormat((".ckpt", ".pt", ".pth"), read_lightning, lightning_content),),
)
