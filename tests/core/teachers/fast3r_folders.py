"""Folders as the hub has them, of a network small enough to write: heads keep their size."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from distill3r_core.nn.names import add_aliases, rename, reverse
from distill3r_core.teachers.fast3r_config import parse_config
from distill3r_core.teachers.fast3r_files import FAST3R_NAMES, build_network

CONFIG = {
    "encoder_args": {
        "encoder_type": "croco",
        "img_size": 512,
        "patch_size": 16,
        "patch_embed_cls": "PatchEmbedDust3R",
        "embed_dim": 32,
        "depth": 1,
        "num_heads": 2,
        "mlp_ratio": 4,
        "pos_embed": "RoPE100",
        "attn_implementation": "flash_attention",
    },
    "decoder_args": {
        "decoder_type": "fast3r",
        "random_image_idx_embedding": True,
        "enc_embed_dim": 32,
        "embed_dim": 32,
        "num_heads": 2,
        "depth": 4,
        "mlp_ratio": 4.0,
        "qkv_bias": True,
        "attn_bias_for_inference_enabled": False,
    },
    "head_args": {
        "head_type": "dpt",
        "output_mode": "pts3d",
        "landscape_only": False,
        "depth_mode": ["exp", -math.inf, math.inf],
        "conf_mode": ["exp", 1, math.inf],
        "patch_size": 16,
        "with_local_head": True,
    },
}


def official_tensors(seed: int = 0, *, config: dict = CONFIG) -> dict[str, Tensor]:
    """Random weights under all official names, both of each alias."""
    generator = torch.Generator().manual_seed(seed)
    ours = build_network(parse_config(config, source="a test")).state_dict()
    drawn = {}
    for name, tensor in ours.items():
        fan_in = math.prod(tensor.shape[1:]) if tensor.ndim > 1 else 1
        value = torch.empty(tensor.shape).normal_(generator=generator)
        is_norm = "norm" in name and name.endswith("weight")
        drawn[name] = 1 + 0.1 * value if is_norm else value / math.sqrt(fan_in) * 0.5
    return add_aliases(rename(drawn, reverse(FAST3R_NAMES)))


def hub_tensors(seed: int = 0, *, config: dict = CONFIG) -> dict[str, Tensor]:
    """As the hub's mixin saves them: `scratch.layer<i>_rn` stays of each pair."""
    every = official_tensors(seed, config=config)
    return {name: value for name, value in every.items() if ".layer_rn." not in name}


def write_folder(folder: Path, tensors: dict[str, Tensor], config: object = CONFIG) -> Path:
    """`config.json`, with bare infinities, and `model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: v.contiguous() for name, v in tensors.items()}, folder / "model.safetensors")
    return folder
