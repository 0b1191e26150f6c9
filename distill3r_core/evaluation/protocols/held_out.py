"""`held-out`: all validation frames of a run, in windows of as many frames as its samples have."""

from dataclasses import replace

from distill3r_core.evaluation.protocols.frame_rules import ConsecutiveFrames
from distill3r_core.evaluation.protocols.table2 import TABLE2

WINDOW = 20  # frames, where no run says how many its samples have

HELD_OUT = replace(
    TABLE2,
    name="held-out",
    frames=ConsecutiveFrames(
        size=WINDOW,
        text="all frames (without --data all validation frames of the run), in windows of as many "
        f"consecutive frames as the run's samples have ({WINDOW} without a run), the last one "
        "aligned to the end; one forward pass per window, its first frame is the anchor",
        as_samples=True,
    ),
    columns=(
        "abs_rel", "auc_30", "rotation_median", "fused", "fused_true_poses",
        "scale_norm", "scale_log_spread_views",
    ),
    source="held-out",
    published={},
)  # fmt: skip
