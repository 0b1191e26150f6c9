"""Names of the official weight files, and the sizes that their shapes tell."""

from collections.abc import Mapping

from torch import Tensor

from distill3r_core.nn.names import Pairs, count_blocks
from distill3r_core.teachers.pi3.network import Pi3Size

NAMES: Pairs = (
    *(
        pair
        for branch in ("point_decoder.", "conf_decoder.", "camera_decoder.")
        for pair in (
            (f"{branch}projects.", f"{branch}embed."),
            (f"{branch}linear_out.", f"{branch}out."),
        )
    ),
    ("point_head.proj.", "point_head."),
    ("conf_head.proj.", "conf_head."),
    *(
        (
            f"camera_head.res_conv.{part}.res_conv{layer + 1}.",
            f"camera_head.residual.{part}.layers.{layer}.",
        )
        for part in range(2)
        for layer in range(3)
    ),
    ("camera_head.more_mlps.0.", "camera_head.first."),
    ("camera_head.more_mlps.2.", "camera_head.second."),
    ("camera_head.fc_t.", "camera_head.translation."),
    ("camera_head.fc_rot.", "camera_head.rotation."),
)


def size_of(state: Mapping[str, Tensor]) -> Pi3Size:
    """The sizes of the network that a state dict belongs to.

    Args:
        state: Tensors under their official names.

    Raises:
        KeyError: It is not one of Pi3.
    """
    return Pi3Size(
        width=state["register_token"].shape[-1],
        head_width=state["decoder.0.attn.q_norm.weight"].shape[0],
        encoder_depth=count_blocks(state, "encoder.blocks."),
        depth=count_blocks(state, "decoder."),
        branch_width=state["point_decoder.projects.weight"].shape[0],
        branch_depth=count_blocks(state, "point_decoder.blocks."),
        points_width=state["point_decoder.linear_out.weight"].shape[0],
        camera_width=state["camera_decoder.linear_out.weight"].shape[0],
        grid=round((state["encoder.pos_embed"].shape[1] - 1) ** 0.5),
    )
