"""Weight files in the official layouts, filled with the recorded drawn weights."""

import argparse
import json
from pathlib import Path

import torch
from drawn_networks import Recorded
from safetensors.torch import save_file

DA3_UNIQUE = ".output_conv2_aux.0.2."  # the one name that hub files keep of the shared norm
# Name of the teacher: stem of the recorded network.
STEMS = {
    "da3-small": "da3_tiny",
    "vggt": "vggt_tiny",
    "pi3": "pi3_tiny",
    "mast3r": "mast3r_tiny",
    "dust3r-512-dpt": "dust3r_tiny",
    "dust3r-512-linear": "dust3r_linear_tiny",
}


def official_tensors(golden: Path, name: str) -> dict[str, torch.Tensor]:
    """Tensors as the hub's file of a teacher names them: one name of each alias."""
    recorded = Recorded(golden, STEMS[name])
    state = recorded.state()
    aliases = recorded.facts["aliases"]
    if name.startswith("da3"):
        targets = set(aliases.values())
        kept = {
            key: value
            for key, value in state.items()
            if key not in targets and (key not in aliases or DA3_UNIQUE in key)
        }
        return {f"model.{key}": value for key, value in kept.items()}
    dropped = set(aliases.values())  # the files of DUSt3R keep `layerN_rn`
    return {key: value for key, value in state.items() if key not in dropped}


def write_folder(folder: Path, golden: Path, name: str) -> Path:
    """A hub folder: `model.safetensors`, and `config.json` where the release has one."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = official_tensors(golden, name)
    save_file(
        {key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors"
    )
    constructor = Recorded(golden, STEMS[name]).facts["constructor"]
    if "enc_num_heads" in constructor:
        (folder / "config.json").write_text(json.dumps(constructor))
    return folder


def write_pickle(path: Path, golden: Path, name: str) -> Path:
    """The `.pth` layout of DUSt3R and MASt3R: both names of aliases, and a namespace."""
    recorded = Recorded(golden, STEMS[name])
    arguments = ", ".join(
        f"{key}={value!r}" for key, value in recorded.facts["constructor"].items()
    )
    args = argparse.Namespace(model=f"AsymmetricCroCo3DStereo({arguments})")
    torch.save({"args": args, "model": recorded.state()}, path)
    return path
