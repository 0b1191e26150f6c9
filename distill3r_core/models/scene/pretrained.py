"""Start a scene student's trunk from a network that was trained on ImageNet."""

from dataclasses import replace
from pathlib import Path

from distill3r_core.models.encoders.encoder_files import fill_mobilenet
from distill3r_core.models.encoders.published_encoders import ENCODER_FILES
from distill3r_core.models.family import Initializer
from distill3r_core.models.scene.build import build
from distill3r_core.models.scene.convolutional import MobileNetwork
from distill3r_core.models.scene.spec import MobileSpec, SceneSpec
from distill3r_core.models.scene.student import SceneStudent

_MOBILENET = ENCODER_FILES["mobilenetv3-large"]


def student_on_mobilenet(path: Path, spec: SceneSpec) -> SceneStudent:
    """Build a student whose trunk is timm's MobileNetV3-Large; the rest is random.

    Args:
        path: The file of weights, or the folder that holds it.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, or its tensors are not that network's.
    """
    student = build(replace(spec, normalization="imagenet"))
    assert isinstance(student.network, MobileNetwork)
    fill_mobilenet(student.network.trunk, path)
    return student


ON_IMAGENET = Initializer(
    name="MobileNetV3-Large on ImageNet",
    find=_MOBILENET.find,
    missing=_MOBILENET.missing,
    build=student_on_mobilenet,
    license=_MOBILENET.license,
)


def initializers(spec: SceneSpec) -> tuple[Initializer, ...]:
    """Published weights that a student of this spec can start from."""
    return (ON_IMAGENET,) if isinstance(spec.network, MobileSpec) else ()
