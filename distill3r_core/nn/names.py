"""Names in official state dicts and in ours: prefixes that stand for each other."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Value = TypeVar("Value")
Pairs = Sequence[tuple[str, str]]  # (official prefix, our prefix)

FUSION_NAMES: Pairs = (
    ("decoder.decoder_embed.", "fusion.embed."),
    ("decoder.dec_blocks.", "fusion.blocks."),
    ("decoder.dec_norm.", "fusion.norm."),
)


def dpt_names(official: str, ours: str) -> Pairs:
    """Pairs for a DPT head, its aliases left out.

    Args:
        official: Prefix of the head, as `downstream_head.dpt.`.
        ours: Prefix of the head, as `global_head.`.
    """
    pairs = [("head.0.", "narrow."), ("head.2.", "refine."), ("head.4.", "out.")]
    for index in range(4):
        stage = f"scratch.refinenet{index + 1}."
        pairs += [
            (f"act_postprocess.{index}.0.", f"project.{index}."),
            (f"act_postprocess.{index}.1.", f"resize.{index}."),
            (f"scratch.layer_rn.{index}.", f"reduce.{index}."),
            (f"{stage}resConfUnit1.", f"stages.{index}.skip_unit."),
            (f"{stage}resConfUnit2.", f"stages.{index}.unit."),
            (f"{stage}out_conv.", f"stages.{index}.mix."),
        ]
    return tuple((official + theirs, ours + own) for theirs, own in pairs)


def fusion_chain_names(official: str, ours: str, *, suffix: str = "") -> Pairs:
    """Pairs for the four stages of a `RefinementChain`.

    Args:
        official: Prefix of the head's `scratch` modules, as `head.scratch.`.
        suffix: What follows the number of a stage in its official name.
    """
    pairs = []
    for index in range(4):
        stage = f"{official}refinenet{index + 1}{suffix}."
        pairs += [
            (f"{stage}resConfUnit1.", f"{ours}stages.{index}.skip_unit."),
            (f"{stage}resConfUnit2.", f"{ours}stages.{index}.unit."),
            (f"{stage}out_conv.", f"{ours}stages.{index}.mix."),
        ]
    return tuple(pairs)


def tap_pyramid_names(official: str, ours: str) -> Pairs:
    """Pairs for a `Reassemble`.

    Args:
        official: Prefix of the head, as `depth_head.`.
        ours: Prefix of the pyramid, as `depth_head.pyramid.`.
    """
    return (
        (f"{official}norm.", f"{ours}norm."),
        (f"{official}projects.", f"{ours}project."),
        (f"{official}resize_layers.", f"{ours}resize."),
        *((f"{official}scratch.layer{i + 1}_rn.", f"{ours}reduce.{i}.") for i in range(4)),
    )


def plane_head_names(official: str, ours: str) -> Pairs:
    """Pairs for a `PlaneHead`; both prefixes end in a dot."""
    scratch = f"{official}scratch."
    return (
        *tap_pyramid_names(official, f"{ours}pyramid."),
        *fusion_chain_names(scratch, f"{ours}chain."),
        (f"{scratch}output_conv1.", f"{ours}tail.narrow."),
        (f"{scratch}output_conv2.0.", f"{ours}tail.refine."),
        (f"{scratch}output_conv2.2.", f"{ours}tail.out."),
    )


def count_blocks(state: Mapping[str, Value], prefix: str) -> int:
    """Number of the blocks `<prefix><number>.` in a state dict.

    Raises:
        KeyError: There is none.
    """
    numbers = {
        name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)
    }
    if not numbers:
        raise KeyError(f"{prefix}0")
    return len(numbers)


def rename(state: Mapping[str, Value], pairs: Pairs) -> dict[str, Value]:
    """The entries under their new names; a name that no prefix fits stays as it is.

    Args:
        pairs: Old and new prefixes; no old one is the beginning of another.
    """
    renamed: dict[str, Value] = {}
    for name, value in state.items():
        fitting = (new + name[len(old) :] for old, new in pairs if name.startswith(old))
        renamed[next(fitting, name)] = value
    return renamed


def reverse(pairs: Pairs) -> Pairs:
    """The inverse pairs."""
    return tuple((new, old) for old, new in pairs)


def merge_aliases(state: Mapping[str, Value]) -> dict[str, Value]:
    """`scratch.layer<i+1>_rn` under the name `scratch.layer_rn.<i>`, its alias.

    Official files hold either name or both. Where both are there the second decides, as it does
    when the official model loads them one after the other.
    """
    merged: dict[str, Value] = {}
    for name, value in state.items():
        head, found, tail = name.partition("scratch.layer")
        if found and tail[1:5] == "_rn." and tail[0] in "1234":
            merged.setdefault(f"{head}scratch.layer_rn.{int(tail[0]) - 1}.{tail[5:]}", value)
        else:
            merged[name] = value
    return merged


def add_aliases(state: Mapping[str, Value]) -> dict[str, Value]:
    """Every `scratch.layer_rn.<i>` under its second name as well."""
    both: dict[str, Value] = {}
    for name, value in state.items():
        head, found, tail = name.partition("scratch.layer_rn.")
        if found:
            both[f"{head}scratch.layer{int(tail[0]) + 1}_rn{tail[1:]}"] = value
        both[name] = value
    return both
