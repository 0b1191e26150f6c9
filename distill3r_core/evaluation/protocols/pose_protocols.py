"""CO3D's relative poses by three codes: ten random frames of every sequence.

Facts: facebookresearch/vggt `evaluation/test_co3d.py`, yyfz/Pi3 (branch evaluation),
facebookresearch/fast3r. Their figures do not compare with each other: see the forms of poses.
"""

from dataclasses import replace

from distill3r_core.evaluation.pose_metrics import FAST3R, PI3
from distill3r_core.evaluation.protocols.frame_rules import RandomFrames
from distill3r_core.evaluation.protocols.record import Protocol
from distill3r_core.evaluation.protocols.sequence_alignments import NO_CLOUDS
from distill3r_core.evaluation.protocols.sequence_rules import SequenceRule
from distill3r_core.evaluation.protocols.table2 import POSES

_FRAMES, _MIN_FRAMES = 10, 50
_MAX_TRANSLATION = 1e5  # sum of the coordinates; the poses of CO3D have no unit

CO3D_VGGT = Protocol(
    name="co3d-vggt",
    frames=RandomFrames(
        _FRAMES,
        seed=0,
        text=f"{_FRAMES} random frames of every sequence of at least {_MIN_FRAMES}, in the order "
        "of their names, drawn by one generator of seed 0",
    ),
    alignment=NO_CLOUDS,
    metrics=POSES,
    columns=("rra_15", "rta_15", "auc_3", "auc_15", "auc_30", "rotation_median"),
    grid=(518, 518),
    aggregation="categories",
    mask="none: no pixel is compared",
    sequences=SequenceRule(_MIN_FRAMES, _MAX_TRANSLATION),
    needs_depth=False,
    rules={
        "sequences": f"without those of fewer than {_MIN_FRAMES} frames, and those in which the "
        "translation (camera from world, PyTorch3D's axes) of any frame sums up to more than "
        f"{_MAX_TRANSLATION:.0e}; they take no random number",
    },
)
CO3D_PI3 = replace(
    CO3D_VGGT,
    name="co3d-pi3",
    frames=RandomFrames(
        _FRAMES,
        seed=42,
        text=f"{_FRAMES} random frames of every sequence, drawn by one generator of seed 42 (Pi3 "
        "stores its lists: these are not the same frames)",
    ),
    metrics=tuple(f"pi3:{name}" for name in POSES),
    columns=tuple(f"pi3:{name}" for name in CO3D_VGGT.columns),
    aggregation="pooled",
    poses=PI3,
    sequences=None,
    rules={},
)
CO3D_FAST3R = replace(
    CO3D_PI3,
    name="co3d-fast3r",
    frames=RandomFrames(
        _FRAMES, seed=0, text=f"{_FRAMES} random frames of every sequence, seed 0 (theirs is open)"
    ),
    metrics=tuple(f"fast3r:{name}" for name in POSES),
    columns=tuple(f"fast3r:{name}" for name in CO3D_VGGT.columns),
    grid=(512, 512),
    aggregation="sequences",
    poses=FAST3R,
)
POSE_PROTOCOLS = (CO3D_VGGT, CO3D_PI3, CO3D_FAST3R)
