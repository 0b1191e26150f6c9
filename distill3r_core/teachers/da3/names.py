"""Names of the official weight files, and the sizes that their shapes tell."""

from collections.abc import Mapping

from torch import Tensor

from distill3r_core.nn.names import (
    Pairs,
    count_blocks,
    fusion_chain_names,
    tap_pyramid_names,
)
from distill3r_core.teachers.da3.backbone import DA3Size

PREFIX = "model."  # of the hub's files
_SCRATCH = "head.scratch."
# The four ray branches share one layer norm. The hub's files keep it under the name of the
# branch 0; only branch 3 is read.
SHARED_NORM = f"{_SCRATCH}output_conv2_aux.3.2."
_SHARED = tuple(f"{_SCRATCH}output_conv2_aux.{level}.2." for level in range(3))
UNREAD = tuple(
    f"{_SCRATCH}{part}"
    for level in range(3)
    for part in (
        f"output_conv1_aux.{level}.",
        f"output_conv2_aux.{level}.0.",
        f"output_conv2_aux.{level}.5.",
    )
)


NAMES: Pairs = (
    ("backbone.pretrained.camera_token", "backbone.camera_token"),
    ("backbone.pretrained.", "backbone.trunk."),
    *tap_pyramid_names("head.", "head.pyramid."),
    *fusion_chain_names(_SCRATCH, "head.depth_chain."),
    *fusion_chain_names(_SCRATCH, "head.ray_chain.", suffix="_aux"),
    (f"{_SCRATCH}output_conv1.", "head.depth_tail.narrow."),
    (f"{_SCRATCH}output_conv2.0.", "head.depth_tail.refine."),
    (f"{_SCRATCH}output_conv2.2.", "head.depth_tail.out."),
    (f"{_SCRATCH}output_conv1_aux.3.", "head.ray_tail.neck."),
    (f"{_SCRATCH}output_conv2_aux.3.0.", "head.ray_tail.refine."),
    (SHARED_NORM, "head.ray_tail.norm."),
    (f"{_SCRATCH}output_conv2_aux.3.5.", "head.ray_tail.out."),
    ("cam_dec.backbone.0.", "camera_decoder.first."),
    ("cam_dec.backbone.2.", "camera_decoder.second."),
    ("cam_dec.fc_t.", "camera_decoder.translation."),
    ("cam_dec.fc_qvec.", "camera_decoder.quaternion."),
    ("cam_dec.fc_fov.0.", "camera_decoder.view_field."),
    ("cam_enc.pose_branch.fc1.", "camera_encoder.widen."),
    ("cam_enc.pose_branch.fc2.", "camera_encoder.embed."),
    ("cam_enc.token_norm.", "camera_encoder.token_norm."),
    ("cam_enc.trunk.", "camera_encoder.blocks."),
    ("cam_enc.trunk_norm.", "camera_encoder.norm."),
)


def read_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official names without their prefix, without what no output reads, one of each alias.

    Args:
        tensors: Tensors of a weight file.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(PREFIX)
        if name.startswith(UNREAD):
            continue
        for alias in _SHARED:
            if name.startswith(alias):
                # Where both are there the last one decides, as when the official model loads them.
                name = SHARED_NORM + name.removeprefix(alias)
        state[name] = tensor
    return state


def size_of(state: Mapping[str, Tensor]) -> DA3Size:
    """The sizes of the network that a state dict belongs to.

    Args:
        state: Official names without their prefix.

    Raises:
        KeyError: It is not one of Depth Anything 3.
    """
    trunk = "backbone.pretrained."
    width = state[f"{trunk}cls_token"].shape[-1]
    depth = count_blocks(state, f"{trunk}blocks.")
    first_normed = 0
    while f"{trunk}blocks.{first_normed}.attn.q_norm.weight" not in state:
        first_normed += 1
        if first_normed == depth:
            raise KeyError(f"{trunk}blocks.{depth - 1}.attn.q_norm.weight")
    # The taps are odd blocks: the last four of 12, every fourth of 24.
    step = 2 if depth <= 12 else 4
    first, second, third, last = (
        state[f"head.projects.{index}.weight"].shape[0] for index in range(4)
    )
    return DA3Size(
        width=width,
        depth=depth,
        heads=width // state[f"{trunk}blocks.{first_normed}.attn.q_norm.weight"].shape[0],
        features=state[f"{_SCRATCH}layer1_rn.weight"].shape[0],
        layer_widths=(first, second, third, last),
        alternate_from=first_normed,
        taps=(depth - 1 - 3 * step, depth - 1 - 2 * step, depth - 1 - step, depth - 1),
        grid=round((state[f"{trunk}pos_embed"].shape[1] - 1) ** 0.5),
    )
