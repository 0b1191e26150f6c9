"""Names of the official weight files, and the sizes that their shapes tell."""

from collections.abc import Mapping

from torch import Tensor

from distill3r_core.nn.names import Pairs, count_blocks, plane_head_names
from distill3r_core.teachers.vggt.network import VGGTSize

# Tracking is another task, and the mask token belongs to the encoder's pretraining.
UNREAD = ("track_head.", "aggregator.patch_embed.mask_token")
POINT_HEAD = "point_head."
PUBLISHED_DEPTH = 24

NAMES: Pairs = (
    ("aggregator.patch_embed.", "aggregator.encoder."),
    ("camera_head.empty_pose_tokens", "camera_head.empty_pose"),
    ("camera_head.poseLN_modulation.1.", "camera_head.modulation."),
    ("camera_head.trunk.", "camera_head.blocks."),
    ("camera_head.trunk_norm.", "camera_head.norm."),
    ("camera_head.pose_branch.fc1.", "camera_head.narrow."),
    ("camera_head.pose_branch.fc2.", "camera_head.out."),
    *plane_head_names("depth_head.", "depth_head."),
    *plane_head_names(POINT_HEAD, POINT_HEAD),
)


def read_state(tensors: Mapping[str, Tensor], *, points: bool = True) -> dict[str, Tensor]:
    """Official names without what is not read here.

    Args:
        tensors: Tensors of a weight file.
        points: Keep the point head.
    """
    unread = UNREAD if points else (*UNREAD, POINT_HEAD)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(unread)}


def size_of(state: Mapping[str, Tensor]) -> VGGTSize:
    """The sizes of the network that a state dict belongs to.

    Args:
        state: Tensors under their official names.

    Raises:
        KeyError: It is not one of VGGT.
    """
    width = state["aggregator.camera_token"].shape[-1]
    depth = count_blocks(state, "aggregator.frame_blocks.")
    first, second, third, last = (
        state[f"depth_head.projects.{index}.weight"].shape[0] for index in range(4)
    )
    quarters = (depth // 4 - 1, depth // 2 - 1, 3 * depth // 4 - 1, depth - 1)
    return VGGTSize(
        width=width,
        heads=width // state["aggregator.frame_blocks.0.attn.q_norm.weight"].shape[0],
        encoder_depth=count_blocks(state, "aggregator.patch_embed.blocks."),
        depth=depth,
        camera_depth=count_blocks(state, "camera_head.trunk."),
        features=state["depth_head.scratch.layer1_rn.weight"].shape[0],
        layer_widths=(first, second, third, last),
        # The published network reads the fifth pair, not the sixth, which ends its first quarter.
        taps=VGGTSize().taps if depth == PUBLISHED_DEPTH else quarters,
        grid=round((state["aggregator.patch_embed.pos_embed"].shape[1] - 1) ** 0.5),
    )
