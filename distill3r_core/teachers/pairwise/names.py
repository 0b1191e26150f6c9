"""What is read of the official weight files, and the sizes that their shapes tell."""

from collections.abc import Mapping

from torch import Tensor

from distill3r_core.nn.names import count_blocks, merge_aliases
from distill3r_core.nn.pairs.official_names import DESCRIPTORS, FIRST, SECOND, UNREAD
from distill3r_core.teachers.pairwise.network import PairSize

HEAD_WIDTH = 64  # channels of an attention head of every release


def read_state(tensors: Mapping[str, Tensor], *, descriptors: bool = False) -> dict[str, Tensor]:
    """Official names without what is not read here, one of each alias.

    Args:
        tensors: Tensors of a weight file. Without a second branch (CroCo's) it starts as the
            first one.
        descriptors: Keep the descriptor heads.
    """
    unread = UNREAD if descriptors else (*UNREAD, *DESCRIPTORS)
    state = {name: value for name, value in tensors.items() if not name.startswith(unread)}
    if not any(name.startswith(SECOND) for name in state):
        branch = {name: value for name, value in state.items() if name.startswith(FIRST)}
        state |= {SECOND + name.removeprefix(FIRST): value for name, value in branch.items()}
    return merge_aliases(state)


def size_of(
    state: Mapping[str, Tensor], *, heads: int | None = None, decoder_heads: int | None = None
) -> PairSize:
    """The sizes of the network that a state dict belongs to.

    Args:
        state: Official names, one of each alias.
        heads: Attention heads of the encoder, which no shape tells; None: 64 channels each.
        decoder_heads: The same of the decoder.

    Raises:
        KeyError: It is not one of DUSt3R or MASt3R.
    """
    width, _, patch_size, _ = state["patch_embed.proj.weight"].shape
    decoder_width = state["decoder_embed.weight"].shape[0]
    plain = PairSize()
    dpt = "downstream_head1.dpt.scratch.layer_rn."
    is_dpt = f"{dpt}0.weight" in state
    if not is_dpt and "downstream_head1.proj.weight" not in state:
        raise KeyError(f"{dpt}0.weight")
    first, second, third, last = (
        (state[f"{dpt}{index}.weight"].shape[1] for index in range(4))
        if is_dpt
        else plain.layer_widths
    )
    features = state.get(f"{DESCRIPTORS[0]}fc2.weight")
    return PairSize(
        width=width,
        depth=count_blocks(state, "enc_blocks."),
        heads=heads or max(width // HEAD_WIDTH, 1),
        decoder_width=decoder_width,
        decoder_depth=count_blocks(state, FIRST),
        decoder_heads=decoder_heads or max(decoder_width // HEAD_WIDTH, 1),
        head="dpt" if is_dpt else "linear",
        features=state[f"{dpt}0.weight"].shape[0] if is_dpt else plain.features,
        layer_widths=(first, second, third, last),
        descriptors=0 if features is None else features.shape[0] // patch_size**2 - 1,
        patch_size=patch_size,
    )
