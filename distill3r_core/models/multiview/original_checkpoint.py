"""The checkpoints of the original project: their names of tensors, reading and writing them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from distill3r_core.config import validate
from distill3r_core.errors import RequestError, WeightsError
from distill3r_core.files import shown_name
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.io.images.teacher_fit import DUST3R_FIT
from distill3r_core.io.weights import read_pickled, tensors_in
from distill3r_core.models.encoders.dune_files import DUNE_NAMES
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.multiview.spec import MultiviewSpec, released
from distill3r_core.models.presets import PRESETS
from distill3r_core.nn.names import (
    FUSION_NAMES,
    Pairs,
    add_aliases,
    dpt_names,
    merge_aliases,
    rename,
    reverse,
)

STUDENT_NAMES: Pairs = (
    *((f"encoder.{theirs}", f"encoder.{ours}") for theirs, ours in DUNE_NAMES),
    *FUSION_NAMES,
    *dpt_names("downstream_head.dpt.", "global_head."),
    *dpt_names("downstream_head_local.dpt.", "local_head."),
)
PREFIX = "student."
IGNORED = "teacher_filter."  # of older checkpoints; the original drops these as well
LICENSES = (
    "Fast3R weights: FAIR Noncommercial Research License",
    "DUNE weights: NAVER's non-commercial license",
)
# What the original's inference script shows it: the teacher's loader at 518, then a squeeze. Not
# the pixels it was trained on ("release" at 512, which mirrors portraits), but those it was
# published with; who trains on from these weights gets the fit of the cache.
INFERENCE_FIT = ImageFit(
    size=(224, 518), mode="release-inference", teacher=replace(DUST3R_FIT, long_edge=518)
)
_LIGHTNING = "2.6.6"  # whose layout is written
_ENCODERS = ("dune",)
_SIZE = "map_size."  # tensors of a predicted size, which the original does not know
_LARGEST = 10**12  # steps; sizes are compared with the tensors before anything is built
_ARCHITECTURE = "paper"  # preset with the architecture of the released checkpoints


def read_lightning(path: Path) -> tuple[dict[str, Tensor], StudentMetadata]:
    """Weights, under our names, and description of a checkpoint of the original project.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or is of another model.
    """
    content = read_pickled(path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} is no checkpoint of Distill3R: it has no 'state_dict'")
    if not any(isinstance(name, str) and name.startswith(PREFIX) for name in state):
        raise WeightsError(
            f"{path} is no checkpoint of Distill3R: no tensor's name begins with {PREFIX!r} "
            f"(of {len(state)})"
        )
    parameters = content.get("hyper_parameters") or {}
    if not isinstance(parameters, Mapping):
        raise WeightsError(f"{path}: its hyper-parameters are a {type(parameters).__name__}")
    spec = _spec_of(parameters, path)
    kept = tensors_in(
        {
            name: value
            for name, value in state.items()
            if not (isinstance(name, str) and name.startswith(IGNORED))
        },
        path,
    )
    metadata = StudentMetadata(
        preset="paper",
        spec=spec,
        size=INFERENCE_FIT.size,
        fit=INFERENCE_FIT.as_plain(),
        teacher="fast3r",
        licenses=LICENSES,
        step=_number(content, "global_step", 0, path),
        origin=f"read from the original project's {path.name}",
    )
    return from_original(kept), metadata


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official names, with or without the prefix `student.`, to ours; unknown ones stay."""
    bare = {name.removeprefix(PREFIX): value for name, value in state.items()}
    return rename(merge_aliases(bare), STUDENT_NAMES)


def to_original(state: Mapping[str, Tensor], *, prefix: str = PREFIX) -> dict[str, Tensor]:
    """Our names to the official ones, both of each alias."""
    official = add_aliases(rename(state, reverse(STUDENT_NAMES)))
    return {prefix + name: value for name, value in official.items()}


def lightning_content(state: Mapping[str, Tensor], metadata: StudentMetadata) -> dict[str, Any]:
    """What the original project's `.ckpt` holds.

    It has no place for a predicted size: lengths are relative there.

    Raises:
        RequestError: The student has another architecture, which the original cannot hold.
    """
    spec, paper = metadata.spec, _paper_spec()
    if not isinstance(spec, MultiviewSpec) or paper != replace(
        spec,
        view_codes="random",
        attention_scale=1.0,
        normalization=paper.normalization,
        map_size=paper.map_size,
    ):
        raise RequestError(
            f"a student of preset {metadata.preset!r} has no place in the original's layout",
            hint="only the architecture of preset 'paper' can be converted to .ckpt",
        )
    return {
        "epoch": 0,
        "global_step": metadata.step,
        "pytorch-lightning_version": _LIGHTNING,
        "state_dict": to_original(
            {name: value for name, value in state.items() if not name.startswith(_SIZE)}
        ),
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "encoder_type": _ENCODERS[0],
            "embed_dim": spec.encoder.width,
            "encoder_depth": spec.encoder.depth,
            "encoder_heads": spec.encoder.heads,
            "decoder_depth": spec.fusion.depth,
            "decoder_heads": spec.fusion.heads,
            "landscape_only": True,
        },
    }


def _spec_of(parameters: Mapping[str, Any], path: Path) -> MultiviewSpec:
    """The released architecture with the stored sizes, whose numbers may be strings."""
    kind = parameters.get("encoder_type", _ENCODERS[0])
    if not isinstance(kind, str) or kind not in _ENCODERS:
        shown = shown_name(kind) if isinstance(kind, str) else f"of type {type(kind).__name__}"
        raise WeightsError(f"{path} has an encoder {shown}; known: {', '.join(_ENCODERS)}")
    spec = released(_paper_spec()).settled()
    fusion = replace(
        spec.fusion,
        depth=_number(parameters, "decoder_depth", spec.fusion.depth, path),
        heads=_number(parameters, "decoder_heads", spec.fusion.heads, path),
    )
    return replace(spec, fusion=fusion)


def _paper_spec() -> MultiviewSpec:
    return validate(MultiviewSpec, PRESETS[_ARCHITECTURE].spec, source="the preset")


def _number(parameters: Mapping[str, Any], name: str, default: int, path: Path) -> int:
    value = parameters.get(name, default)
    fits = isinstance(value, str | int | float) and str(value).isdecimal()
    if not fits or int(value) > _LARGEST:
        shown = shown_name(value) if isinstance(value, str) else f"a {type(value).__name__}"
        raise WeightsError(f"{path}: hyper-parameter {name} is {shown}, not a whole number")
    return int(value)
