"""Read Fast3R's official files into our network, never holding two copies of it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from distill3r_core.errors import WeightsError
from distill3r_core.io.weights import check_names, read_pickled, read_tensors
from distill3r_core.nn.names import (
    FUSION_NAMES,
    Pairs,
    dpt_names,
    merge_aliases,
    rename,
    reverse,
)
from distill3r_core.nn.view_codes import view_code_table
from distill3r_core.teachers.fast3r_config import Fast3RConfig, read_config
from distill3r_core.teachers.fast3r_network import Fast3R

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # of a hub folder
FAST3R_NAMES: Pairs = (
    ("encoder.patch_embed.proj.", "encoder.embed.proj."),
    ("encoder.enc_blocks.", "encoder.blocks."),
    ("encoder.enc_norm.", "encoder.norm."),
    *FUSION_NAMES,
    *dpt_names("downstream_head.dpt.", "global_head."),
    *dpt_names("downstream_head_local.dpt.", "local_head."),
)
PREFIX = "net."  # of Lightning's training checkpoints


def weight_file(weights: Path) -> Path:
    """The file with the tensors: `model.safetensors` of a folder, or the file itself."""
    return weights / WEIGHTS if weights.is_dir() else weights


def load_network(
    weights: Path, *, device: torch.device, dtype: torch.dtype | None = None
) -> Fast3R:
    """The network of a hub folder, in eval mode, in float32.

    Args:
        weights: The folder, or a `.safetensors` or Lightning `.ckpt` file with the `config.json`
            beside it.
        dtype: Type of the attention; see `Fast3R`.

    Raises:
        WeightsError: A file is missing, damaged or not Fast3R's; names the tensors.
    """
    file = weight_file(weights)
    config = file.parent / CONFIG
    for path in (file, config):
        if not path.is_file():
            raise WeightsError(f"no file {path}", hint="a Fast3R folder has both files of the hub")
    network = build_network(read_config(config), dtype=dtype)
    state = original_state(_read(file, device))
    wanted = rename(network.state_dict(), reverse(FAST3R_NAMES))
    check_names(state, wanted, source=str(file), hint=f"is it described by {config}?")
    return fill_network(network, state, device=device)


def build_network(config: Fast3RConfig, *, dtype: torch.dtype | None = None) -> Fast3R:
    """The network on the meta device: all names and shapes, no memory."""
    with torch.device("meta"):
        return Fast3R(config, dtype=dtype)


def fill_network(network: Fast3R, state: Mapping[str, Tensor], *, device: torch.device) -> Fast3R:
    """Let a network of the meta device own the tensors of a state dict.

    Args:
        state: Under the official names, on `device`, one name of each alias.
        device: Where the network's own table goes.
    """
    full = {name: tensor.float() for name, tensor in state.items()}  # no copy of float32
    network.load_state_dict(rename(full, FAST3R_NAMES), assign=True)
    network.fusion.codes = view_code_table(network.config.decoder_width).to(device)
    return network.requires_grad_(False).eval()


def original_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official names, one of each alias; of a Lightning checkpoint the network's part alone."""
    if any(name.startswith(PREFIX) for name in tensors):
        tensors = {
            name.removeprefix(PREFIX): value
            for name, value in tensors.items()
            if name.startswith(PREFIX)
        }
    return merge_aliases(tensors)


def _read(file: Path, device: torch.device) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return read_tensors(file, device=str(device))[0]
    content = read_pickled(file, map_location=str(device))
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{file} is no checkpoint of Fast3R: it has no 'state_dict'")
    return dict(state)
