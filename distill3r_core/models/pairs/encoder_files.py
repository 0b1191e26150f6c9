"""The published encoders that pair students start from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from distill3r_core.models.encoders.encoder_files import fill_mobilenet, fill_vit
from distill3r_core.models.encoders.mobilenet import MobileNetEncoder, MobileNetSpec
from distill3r_core.models.encoders.published_encoders import ENCODER_FILES
from distill3r_core.models.encoders.vit import VitEncoder, VitSpec
from distill3r_core.models.family import Initializer
from distill3r_core.models.pairs.network import build_pair_student
from distill3r_core.models.pairs.spec import PairSpec
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.models.spec import Normalization

# Width, depth, heads, pixels of a patch, LayerScale: what tells published transformers apart.
_VITS = {(384, 12, 6, 14, True): "dinov2-vits14", (192, 12, 3, 16, False): "vit-tiny"}
# The images that each was trained on: no file says it.
_NORMALIZATIONS: Mapping[str, Normalization] = {
    "dinov2-vits14": "imagenet",
    "vit-tiny": "unit",
    "mobilenetv3-large": "imagenet",
}


def encoder_initializers(spec: PairSpec) -> Sequence[Initializer]:
    """The published encoder of a spec's kind and size; none where there is none."""
    name = _published_name(spec)
    return () if name is None else (_initializer(name),)


def student_on_encoder(path: Path, spec: PairSpec) -> PairStudent:
    """Build a student whose encoder is a published one; the rest is random.

    The student's images are normalized as that encoder's were, whatever the spec says.

    Args:
        path: The encoder's file, or the folder of a hub that holds it.
        spec: Its encoder is of the kind and size of a published one.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or its tensors are not those of the encoder.
    """
    name = _published_name(spec)
    assert name is not None, "only these have an initializer"
    student = build_pair_student(replace(spec, normalization=_NORMALIZATIONS[name]))
    if isinstance(student.encoder, MobileNetEncoder):
        fill_mobilenet(student.encoder, path)
    else:
        assert isinstance(student.encoder, VitEncoder)
        fill_vit(student.encoder, path)
    return student


def _published_name(spec: PairSpec) -> str | None:
    encoder = spec.encoder
    if isinstance(encoder, MobileNetSpec):
        return "mobilenetv3-large"
    if not isinstance(encoder, VitSpec):
        return None
    return _VITS.get(
        (encoder.width, encoder.depth, encoder.heads, encoder.kernel, encoder.layer_scale)
    )


def _initializer(name: str) -> Initializer:
    weights = ENCODER_FILES[name]
    return Initializer(
        name=name,
        find=weights.find,
        missing=weights.missing,
        build=student_on_encoder,
        license=weights.license,
    )
