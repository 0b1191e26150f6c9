"""Reading the files of DUNE's published encoders."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from distill3r_core.errors import WeightsError
from distill3r_core.files import shown_name
from distill3r_core.io.weights import check_names, read_pickled
from distill3r_core.models.encoders.dune import DuneSpec
from distill3r_core.models.encoders.dune_network import DuneEncoder
from distill3r_core.nn.names import Pairs, rename

# DUNE's names of its architectures, and ours.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vit_small": {"arch": "vits14", "width": 384, "heads": 6},
    "vit_base": {"arch": "vitb14", "width": 768, "heads": 12},
}
DUNE_NAMES: Pairs = (("blocks.0.", "blocks."),)  # all blocks sit in one chunk, number 0
_WRAPPERS = ("module.", "_orig_mod.")
_MARK = "encoder."
_IMAGE_SIZE = 448
_LARGEST_IMAGE = 1 << 14  # pixels a side
DEPTH = 12


@dataclass(frozen=True)
class DuneFile:
    """The encoder in a `.pth` of DUNE."""

    state: dict[str, Tensor]  # the encoder's tensors under our names
    spec: dict[str, Any]  # what its spec is made of, depth left out

    def encoder_spec(self, *, depth: int = DEPTH) -> DuneSpec:
        """The spec of the encoder; published ones have 12 blocks."""
        return DuneSpec(kind="dune", depth=depth, **self.spec)


def read_dune(path: str | Path) -> DuneFile:
    """The encoder of a published file; without its projectors and teacher norms.

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
    given = content["args"]
    options = vars(given) if isinstance(given, Namespace) else dict(given)
    encoder = options.get("enc_args")
    arch = encoder.get("arch") if isinstance(encoder, Mapping) else None
    if not isinstance(arch, str) or arch not in ARCHITECTURES:
        shown = shown_name(arch) if isinstance(arch, str) else f"a {type(arch).__name__}"
        known = ", ".join(ARCHITECTURES)
        raise WeightsError(f"{path}: DUNE's architecture is {shown}; known: {known}")
    side = options.get("image_size", _IMAGE_SIZE)
    if not isinstance(side, int) or not 0 < side <= _LARGEST_IMAGE:
        raise WeightsError(f"{path}: DUNE's image size is not a number up to {_LARGEST_IMAGE}")
    grid = side // DuneSpec.patch
    state = rename(_encoder_state(content["model"]), DUNE_NAMES)
    return DuneFile(state, {**ARCHITECTURES[arch], "position_grid": grid})


def load_dune(path: str | Path) -> DuneEncoder:
    """A published encoder in eval mode. It expects images normalized as for ImageNet.

    Args:
        path: `dune_vitsmall14_448.pth` or one of its siblings.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, would run code, or its tensors are not DUNE's.
    """
    file = read_dune(path)
    encoder = file.encoder_spec().build()
    fill_encoder(encoder, file.state, path)
    return encoder.eval()


def fill_encoder(encoder: DuneEncoder, state: dict[str, Tensor], path: str | Path) -> None:
    """Load the tensors of a published file.

    Raises:
        WeightsError: They are not those of the encoder.
    """
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
