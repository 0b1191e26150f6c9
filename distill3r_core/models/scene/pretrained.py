"""Start a scene student's trunk from a network that was trained on ImageNet."""

from dataclasses import replace
from pathlib import Path

import torch

from distill3r_core.errors import WeightsError
from distill3r_core.io.weights import read_tensors
from distill3r_core.models.encoders.published_encoders import ENCODER_FILES, FILE
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
    file = path / FILE if path.is_dir() else path
    stored, _ = read_tensors(file)
    wanted = student.network.trunk.state_dict()
    for name, tensor in wanted.items():
        # Files do not count the batches that their statistics are of.
        if name not in stored and name.endswith("num_batches_tracked"):
            continue
        found = stored.get(name)
        if found is None or found.shape != tensor.shape:
            shape = "is missing" if found is None else f"is {tuple(found.shape)}"
            raise WeightsError(
                f"{file}: {name} {shape}, MobileNetV3-Large has {tuple(tensor.shape)}",
                hint=f"the file of `distill3r models download {_MOBILENET.name}` fits",
            )
        with torch.no_grad():
            tensor.copy_(found)
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
