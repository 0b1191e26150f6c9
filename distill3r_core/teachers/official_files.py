"""Read the official weight file of a network into it, never holding two copies."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill3r_core.errors import WeightsError
from distill3r_core.io.weights import check_names, read_pickled, read_tensors, tensor_shapes
from distill3r_core.nn.names import Pairs, rename, reverse

SAFETENSORS = ".safetensors"
STATE_KEYS = ("model", "state_dict")  # under which pickled checkpoints keep their tensors


def find_weight_file(weights: Path, files: tuple[str, ...]) -> Path:
    """The file with the tensors: the first of `files` in a folder, or the file itself.

    Raises:
        WeightsError: The folder has none of them.
    """
    if weights.is_file():
        return weights
    for name in files:
        if (weights / name).is_file():
            return weights / name
    raise WeightsError(f"{weights} has no file {' or '.join(files)}")


def read_checkpoint(file: Path, device: torch.device) -> tuple[dict[str, Tensor], Any]:
    """Tensors of a safetensors file or of a pickled checkpoint, and what else it holds.

    Args:
        file: The file; pickles are read as data, never executed.
        device: Where the tensors go.

    Returns:
        The tensors, and the other entries of the checkpoint (None where there are none).

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, holds objects, or has no tensors.
    """
    if file.suffix == SAFETENSORS:
        return read_tensors(file, device=str(device))[0], None
    content = read_pickled(file, map_location=str(device))
    rest = None
    if isinstance(content, Mapping):
        for key in STATE_KEYS:
            if isinstance(content.get(key), Mapping):
                rest = {name: value for name, value in content.items() if name != key}
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{file} is no checkpoint: it has no tensors")
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{file} is no checkpoint: not all of its entries are tensors")
    return dict(content), rest


def read_shapes(file: Path) -> dict[str, Tensor]:
    """Tensors of a weight file on the meta device: names and shapes, without reading numbers.

    Raises:
        InputMissingError: There is no such file.
        WeightsError: It is damaged, holds objects, or has no tensors.
    """
    if file.suffix == SAFETENSORS:
        shapes = tensor_shapes(file)
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return read_checkpoint(file, torch.device("meta"))[0]


def describe_checkpoint(file: Path) -> str:
    """What is said about a network beside its tensors; "" where there is nothing.

    That is `config.json` beside a safetensors file, and the constructor's string in a pickle of
    DUSt3R or MASt3R.

    Raises:
        WeightsError: A pickle is damaged, or holds objects.
    """
    if file.suffix != SAFETENSORS:
        rest = read_checkpoint(file, torch.device("meta"))[1]
        args = rest.get("args") if isinstance(rest, Mapping) else None
        return str(getattr(args, "model", ""))
    described = file.parent / "config.json"
    return described.read_text(encoding="utf-8", errors="replace") if described.is_file() else ""


def fill_network(
    state: Mapping[str, Tensor], build: Callable[[], nn.Module], names: Pairs, *, source: str
) -> nn.Module:
    """A network in evaluation mode that owns the tensors of a state dict, in float32.

    Args:
        state: Tensors under their official names, without those that are not read.
        build: Builds the network; called on the meta device.
        names: Official and our prefixes.
        source: Where the tensors are from, for messages.

    Raises:
        WeightsError: Tensors are missing, unknown or of another shape; names them.
    """
    with torch.device("meta"):
        network = build()
    wanted = rename(network.state_dict(), reverse(names))
    check_names(dict(state), wanted, source=source, hint="is it the file of this model?")
    full = {name: tensor.float() for name, tensor in state.items()}  # no copy of float32
    network.load_state_dict(rename(full, names), assign=True)
    return network.requires_grad_(False).eval()


def refuse_foreign_weights(file: Path, model: str, error: KeyError) -> WeightsError:
    """The error of a file in which a tensor that tells the size of a network is missing."""
    return WeightsError(
        f"{file} is not a weight file of {model}: it has no tensor {error.args[0]!r}",
        hint="name the file or folder of this model, or choose the model of this file",
    )
