"""The `config.json` beside Fast3R's weights: what it says, and what of it can be built here."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core.errors import WeightsError
from distill3r_core.files import read_text_file
from distill3r_core.untrusted.printable import reason_of

# The inference softmax scale: assumed numbers of views at inference and in training. They are
# constants of the weights; the actual number of views plays no role.
SCALED_ATTENTION = math.sqrt(math.log(137) / math.log(20))
LANDSCAPE_EMBED = "ManyAR_PatchEmbed"  # of training: portrait images are stored transposed
_EMBEDS = ("PatchEmbedDust3R", LANDSCAPE_EMBED)
_FIXED: dict[str, dict[str, tuple[Any, ...]]] = {  # all that the released family has
    "encoder_args": {"encoder_type": ("croco",), "pos_embed": ("RoPE100",), "mlp_ratio": (4,)},
    "decoder_args": {"decoder_type": ("fast3r",), "mlp_ratio": (4,), "qkv_bias": (True,)},
    "head_args": {"head_type": ("dpt",), "output_mode": ("pts3d",), "with_local_head": (True,)},
}


@dataclass(frozen=True)
class Fast3RConfig:
    """Sizes and choices of a Fast3R network.

    Args:
        landscape_embed: Images are stored in landscape; those whose true shape is portrait are
            turned before they are cut into patches.
    """

    encoder_width: int = 1024
    encoder_depth: int = 24
    encoder_heads: int = 16
    decoder_width: int = 1024  # channels of a token in the transformer over all views
    decoder_depth: int = 24
    decoder_heads: int = 16
    patch_size: int = 16  # pixels along a patch
    landscape_embed: bool = False
    landscape_heads: bool = False
    random_view_codes: bool = True  # views but the first are numbered at random
    scaled_attention: bool = False  # scale the softmax of the transformer over all views


RELEASED = Fast3RConfig()  # jedyang97/Fast3R_ViT_Large_512


def read_config(path: Path) -> Fast3RConfig:
    """What a `config.json` of the hub says; its infinities may be bare literals.

    Raises:
        WeightsError: It is no such file, lacks a value, or asks for what is not known here.
    """
    try:
        content = json.loads(read_text_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"cannot read {path}: {reason_of(error)}") from error
    return parse_config(content, source=str(path))


def parse_config(content: Any, *, source: str) -> Fast3RConfig:
    """The same of a mapping with `encoder_args`, `decoder_args` and `head_args`.

    Raises:
        WeightsError: It lacks a value, or asks for what is not known here; all of it at once.
    """
    sections = {
        name: section
        for name in _FIXED
        if isinstance(content, Mapping) and isinstance(section := content.get(name), Mapping)
    }
    if len(sections) < len(_FIXED):
        lacks = ", ".join(name for name in _FIXED if name not in sections)
        raise WeightsError(f"{source} is no configuration of Fast3R: it lacks {lacks}")
    problems = _unknown(sections)
    encoder, decoder, head = sections.values()
    wanted = {
        "encoder_args": ("embed_dim", "depth", "num_heads", "patch_size"),
        "decoder_args": ("embed_dim", "depth", "num_heads"),
        "head_args": (),
    }
    for name, keys in wanted.items():
        for key in keys:
            value = sections[name].get(key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                problems.append(f"  {name}.{key}: {value!r} is not a positive number")
    if not problems:
        problems = _inconsistent(encoder, decoder, head)
    if problems:
        raise WeightsError(f"{source} asks for what is not known here:\n" + "\n".join(problems))
    return Fast3RConfig(
        encoder_width=encoder["embed_dim"],
        encoder_depth=encoder["depth"],
        encoder_heads=encoder["num_heads"],
        decoder_width=decoder["embed_dim"],
        decoder_depth=decoder["depth"],
        decoder_heads=decoder["num_heads"],
        patch_size=encoder["patch_size"],
        landscape_embed=encoder.get("patch_embed_cls") == LANDSCAPE_EMBED,
        landscape_heads=bool(head.get("landscape_only", True)),
        random_view_codes=bool(decoder.get("random_image_idx_embedding", False)),
        # On by default in Fast3R's decoder.
        scaled_attention=bool(decoder.get("attn_bias_for_inference_enabled", True)),
    )


def _unknown(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Values that would make another network than the one written here."""
    problems = [
        f"  {name}.{key}: {sections[name][key]!r}, known: {', '.join(map(str, known))}"
        for name, keys in _FIXED.items()
        for key, known in keys.items()
        if sections[name].get(key, known[0]) not in known
    ]
    embed = sections["encoder_args"].get("patch_embed_cls", _EMBEDS[0])
    if embed not in _EMBEDS:
        problems.append(f"  encoder_args.patch_embed_cls: {embed!r}, known: {', '.join(_EMBEDS)}")
    for key, known in (
        ("depth_mode", ("exp", -math.inf, math.inf)),
        ("conf_mode", ("exp", 1.0, math.inf)),
    ):
        mode = sections["head_args"].get(key, known)
        if _mode(mode) != known:
            problems.append(f"  head_args.{key}: {mode!r}, known: {known}")
    return problems


def _inconsistent(
    encoder: Mapping[str, Any], decoder: Mapping[str, Any], head: Mapping[str, Any]
) -> list[str]:
    """Sizes that do not fit together."""
    problems = []
    if decoder.get("enc_embed_dim", encoder["embed_dim"]) != encoder["embed_dim"]:
        problems.append(f"  decoder_args.enc_embed_dim: not the encoder's {encoder['embed_dim']}")
    if head.get("patch_size", encoder["patch_size"]) != encoder["patch_size"]:
        problems.append(f"  head_args.patch_size: not the encoder's {encoder['patch_size']}")
    if encoder["embed_dim"] % (4 * encoder["num_heads"]):  # a quarter for each rotation
        problems.append("  encoder_args.num_heads: do not divide embed_dim into multiples of 4")
    if decoder["embed_dim"] % decoder["num_heads"]:
        problems.append("  decoder_args.num_heads: do not divide embed_dim")
    return problems


def _mode(value: Any) -> tuple[str, float, float] | None:
    """An activation with its bounds, whose infinities may be words."""
    try:
        name, low, high = value
        return str(name), float(low), float(high)
    except (TypeError, ValueError):
        return None
