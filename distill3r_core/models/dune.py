"""DUNE's published encoders: reading their files, and starting a student from one."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from distill3r_core.errors import WeightsError
from distill3r_core.io.weights import check_names, read_pickled
from distill3r_core.models.build import build_encoder, build_student
from distill3r_core.models.dune_encoder import DuneEncoder
from distill3r_core.models.official import DUNE_NAMES
from distill3r_core.models.spec import PATCH, SPECS, StudentSpec
from distill3r_core.models.student import Student
from distill3r_core.nn.names import rename

Arch = Literal["vit_small", "vit_base"]
SIZES: dict[str, dict[str, Any]] = {
    "vit_small": {"encoder": "dune_vits14", "encoder_width": 384, "encoder_heads": 6},
    "vit_base": {"encoder": "dune_vitb14", "encoder_width": 768, "encoder_heads": 12},
}
_WRAPPERS = ("module.", "_orig_mod.")
_MARK = "encoder."
_IMAGE_SIZE = 448


@dataclass(frozen=True)
class DuneFile:
    """What a `.pth` of DUNE says.

    Args:
        state: The encoder's tensors under our names.
        overrides: Fields of a `StudentSpec` that describe it.
    """

    state: dict[str, Tensor]
    overrides: dict[str, Any]


def read_dune(path: str | Path) -> DuneFile:
    """The encoder of a published file; projectors and teacher norms are left behind.

    Args:
        path: `dune_vitsmall14_448.pth` or one of its siblings.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or is not DUNE's.
    """
    path = Path(path)
    content = read_pickled(path)
    if not isinstance(content, Mapping) or not {"model", "args"} <= content.keys():
        raise WeightsError(f"{path} is no file of DUNE: it lacks 'model' and 'args'")
    options = _options(content["args"])
    encoder = options.get("enc_args")
    arch = encoder.get("arch") if isinstance(encoder, Mapping) else None
    if arch not in SIZES:
        raise WeightsError(f"{path}: DUNE's architecture is {arch!r}; known: {', '.join(SIZES)}")
    grid = int(options.get("image_size", _IMAGE_SIZE)) // PATCH
    state = rename(_encoder_state(content["model"]), DUNE_NAMES)
    return DuneFile(state, {**SIZES[arch], "position_grid": grid})


def load_dune(path: str | Path) -> DuneEncoder:
    """A published encoder in eval mode. It expects pictures normalized as for ImageNet.

    Args:
        path: `dune_vitsmall14_448.pth` or one of its siblings.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or its tensors are not DUNE's.
    """
    file = read_dune(path)
    spec = StudentSpec.from_plain(SPECS["paper"].as_plain() | file.overrides)
    encoder = build_encoder(spec)
    assert isinstance(encoder, DuneEncoder)
    _fill(encoder, file.state, path)
    return encoder.eval()


def student_on_dune(path: str | Path, preset: str = "paper", **overrides: Any) -> Student:
    """A student whose encoder is a published one; fusion and heads are random.

    Args:
        path: `dune_vitsmall14_448.pth` or one of its siblings.
        preset: See `build_student`.
        overrides: See `build_student`; the file decides about the encoder.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or its tensors are not DUNE's.
    """
    file = read_dune(path)
    student = build_student(preset, **{**overrides, **file.overrides, "normalization": "imagenet"})
    assert isinstance(student.encoder, DuneEncoder)
    _fill(student.encoder, file.state, path)
    return student


def _fill(encoder: DuneEncoder, state: dict[str, Tensor], path: str | Path) -> None:
    check_names(state, encoder.state_dict(), source=str(path))
    encoder.load_state_dict(state)


def _encoder_state(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in model.items():
        bare = name
        for wrapper in _WRAPPERS:
            bare = bare.replace(wrapper, "")
        if bare.startswith(_MARK):
            found[bare.removeprefix(_MARK)] = tensor
    return found


def _options(arguments: Any) -> Mapping[str, Any]:
    return vars(arguments) if isinstance(arguments, Namespace) else dict(arguments)
