"""`table2`: the reading of arXiv:2602.00865, Table II, whose authors publish no code."""

from distill3r_core.evaluation.protocols.alignments import PER_VIEW
from distill3r_core.evaluation.protocols.frame_rules import NumberedFrames
from distill3r_core.evaluation.protocols.record import Protocol, Published, PublishedRow

MAX_VIEWS = 50  # of a sequence: what every 20th frame gives on 7-Scenes

SEVEN_SCENES_TEST = frozenset(
    f"{scene}/seq-{number:02d}"
    for scene, numbers in {
        "chess": (3, 5),
        "fire": (3, 4),
        "heads": (1,),
        "office": (2, 6, 7, 9),
        "pumpkin": (1, 7),
        "redkitchen": (3, 4, 6, 12, 14),
        "stairs": (1, 4),
    }.items()
    for number in numbers
)
SEVEN_SCENES_VIEWS = 850  # every 20th of 1000 frames of 16 sequences, and of 500 of two
DTU_TEST = frozenset(
    f"scan{number}"
    for number in (
        1, 4, 9, 10, 11, 12, 13, 15, 23, 24, 29, 32, 33, 34, 48, 49, 62, 75, 77, 110, 114, 118,
    )
)  # fmt: skip
DTU_VIEWS = 220  # ten of each scan
_FAST3R, _DISTILL3R = (384, 512), (224, 518)  # input of the two published systems

SCALES = (
    "scale_norm",
    "scale",
    "scale_mean",
    "scale_log_spread",
    "scale_log_spread_views",
    "scale_fit_spread_views",
    "scale_log_error",
)
POSES = (
    "auc_3", "auc_5", "auc_15", "auc_30",
    "rra_3", "rra_5", "rra_15", "rra_30", "rta_3", "rta_5", "rta_15", "rta_30",
    "rotation_median", "translation_median", "ate", "rpe_t", "rpe_r",
)  # fmt: skip
DEPTH = (
    "abs_rel", "sq_rel", "rmse", "log_rmse",
    "delta_125", "delta_125_2", "delta_125_3", "inlier_103", "inlier_105", "inlier_110",
)  # fmt: skip
FUSED = ("fused", "fused_true_poses")
METRICS = ("acc", "comp", "chamfer", "fscore", *DEPTH, *POSES, *FUSED, "focal_error", *SCALES)
RULES = {
    "distance": "nearest neighbor, both ways",
    "median": "over the points of a view",
    "mean": "over the views of a sequence, then over sequences",
    "truth": "depth registered to the color camera, sampled to the grid (nearest)",
    "depth": "each view scaled by the ratio of its lower median depths",
    "fused": "mean distance of all points to their own true points after one similarity",
}

TABLE2 = Protocol(
    name="table2",
    frames=NumberedFrames(
        strides={"7scenes": 20, "dtu": 5},
        most=MAX_VIEWS,
        text="7-Scenes: number % 20 = 0; DTU: number % 5 = 0; others: every k-th, "
        f"at most {MAX_VIEWS}; one forward pass per sequence, the first frame is the anchor",
    ),
    alignment=PER_VIEW,
    metrics=METRICS,
    columns=("acc", "comp", "abs_rel", "auc_30", "rotation_median", "fused", "scale_norm"),
    grid=_DISTILL3R,
    rules=RULES,
    published={
        "7scenes": Published(
            sequences=SEVEN_SCENES_TEST,
            views=SEVEN_SCENES_VIEWS,
            rows=(
                PublishedRow("Fast3R", _FAST3R, {"acc": 2.45, "comp": 2.97, "scale_mean": 3.54}),
                PublishedRow(
                    "Distill3R", _DISTILL3R, {"acc": 8.76, "comp": 8.88, "scale_mean": 1.62}
                ),
            ),
        ),
        # Meters x 100 too; the paper prints the scale in millimeters per unit.
        "dtu": Published(
            sequences=DTU_TEST,
            views=DTU_VIEWS,
            rows=(
                PublishedRow("Fast3R", _FAST3R, {"acc": 0.31, "comp": 0.41, "scale_mean": 0.94249}),
                PublishedRow(
                    "Distill3R", _DISTILL3R, {"acc": 1.16, "comp": 1.77, "scale_mean": 0.39459}
                ),
            ),
        ),
    },
)
