"""Reading published files of encoders into the encoders of students."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from distill3r_core.errors import WeightsError
from distill3r_core.io.weights import check_names, read_pickled, read_tensors, tensors_in
from distill3r_core.models.encoders.mobilenet import STAGES, MobileNetEncoder
from distill3r_core.models.encoders.published_encoders import FILE
from distill3r_core.models.encoders.vit import VitEncoder
from distill3r_core.nn.dino import resized_table

_COUNTS = "num_batches_tracked"  # of batch norms; not read
_POSITIONS = "pos_embed"
_SAFETENSORS = ".safetensors"
_MAX_GRID = 1 << 8  # rows of a table of positions


def fill_mobilenet(encoder: MobileNetEncoder, path: Path) -> None:
    """Load timm's file of MobileNetV3-Large; stages behind stride 16 are left out.

    Args:
        path: The file, or the folder of a hub that holds it.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, or its tensors are not those of the network.
    """
    later = ("conv_head.", "classifier.", f"blocks.{len(STAGES)}.", f"blocks.{len(STAGES) + 1}.")
    found = {
        name: value
        for name, value in _tensors(path).items()
        if not name.startswith(later) and not name.endswith(_COUNTS)
    }
    state = encoder.state_dict()
    check_names(
        found,
        {name: value for name, value in state.items() if not name.endswith(_COUNTS)},
        source=str(path),
        hint="timm's file is needed, which `distill3r models download mobilenetv3-large` gets: "
        "torchvision's has other names",
    )
    encoder.load_state_dict({**state, **found})


def fill_vit(encoder: VitEncoder, path: Path) -> None:
    """Load the file of a vision transformer, DINOv2's own or timm's; without its classifier.

    The table of positions is resized to the grid of the encoder.

    Args:
        path: The file, or the folder of a hub that holds it.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, or its tensors are not those of the network.
    """
    unread = ("head.", "mask_token", "fc_norm.")
    found = {name: value for name, value in _tensors(path).items() if not name.startswith(unread)}
    trunk = encoder.trunk
    table = found.get(_POSITIONS)
    if table is not None and table.shape != trunk.pos_embed.shape:
        rows = round((table.shape[1] - 1) ** 0.5) if table.ndim == 3 and len(table) == 1 else 0
        if not 0 < rows <= _MAX_GRID or rows**2 + 1 != table.shape[1]:
            shape = tuple(table.shape)
            raise WeightsError(f"{path}: {_POSITIONS} of shape {shape} is no square table")
        own, patches = table[:, :1].float(), table[:, 1:].float()  # the class token's row is first
        patches = resized_table(patches, (trunk.grid, trunk.grid), grid=rows, resizing="size")
        found[_POSITIONS] = torch.cat([own, patches], 1)
    check_names(found, trunk.state_dict(), source=str(path))
    trunk.load_state_dict(found)


def _tensors(path: Path) -> Mapping[str, Tensor]:
    """Raises: InputMissingError, WeightsError: There is no file, or no finite tensors in it."""
    file = path / FILE if path.is_dir() else path
    if file.suffix == _SAFETENSORS:
        found = read_tensors(file)[0]
    else:
        found = tensors_in(read_pickled(file), file)
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise WeightsError(f"{file}: {name} has numbers that are not finite")
    return found
