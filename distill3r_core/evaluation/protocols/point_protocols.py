"""The published evaluations of point maps on 7-Scenes and DTU: Acc, Comp, normals.

Facts: HengyiWang/spann3r, facebookresearch/fast3r, CUT3R/CUT3R, yyfz/Pi3 (branch evaluation). On
DTU the frames are those of the feed-forward evaluations: every 5th of 49, within the object mask.
"""

from dataclasses import replace

from distill3r_core.evaluation.protocols.frame_rules import NumberedFrames
from distill3r_core.evaluation.protocols.record import Protocol
from distill3r_core.evaluation.protocols.sequence_alignments import (
    CENTER,
    CONFIDENT,
    MEDIANS,
    MEDIANS_CENTER,
    ONE_SIMILARITY,
)
from distill3r_core.evaluation.protocols.table2 import DEPTH, FUSED, MAX_VIEWS, POSES

_CLOUDS = (
    "acc_mean", "acc", "comp_mean", "comp", "chamfer", "fscore", "nc", "nc_median", "scale_norm",
)  # fmt: skip
_COLUMNS = ("acc_mean", "acc", "comp_mean", "comp", "nc", "auc_30", "scale_norm")
_DTU_STRIDE = 5
# These two take the list of DTU's views from its end: view 45 is the anchor.
_BACKWARDS = frozenset({"dtu"})


def _frames(stride: int, *, backwards: frozenset[str] = frozenset()) -> NumberedFrames:
    order = "; DTU from the last to the first" if backwards else ""
    return NumberedFrames(
        strides={"7scenes": stride, "dtu": _DTU_STRIDE},
        most=MAX_VIEWS,
        text=f"7-Scenes: number % {stride} = 0; DTU: number % {_DTU_STRIDE} = 0{order}; others: "
        f"every k-th, at most {MAX_VIEWS}; one forward pass per sequence",
        backwards=backwards,
    )


_RULES = {
    "distance": "nearest neighbor, both ways, all points of a sequence in one cloud",
    "mean": "over the points of a sequence (acc, comp: median too), then over sequences",
    "normals": "of 30 neighbors, the point itself included",
}


SPANN3R = Protocol(
    name="spann3r",
    frames=_frames(20, backwards=_BACKWARDS),
    alignment=MEDIANS,
    metrics=(*_CLOUDS, *DEPTH, "focal_error", *POSES, *FUSED),
    columns=_COLUMNS,
    grid=(224, 224),
    fit="crop",
    rules=_RULES,
)
FAST3R = replace(SPANN3R, name="fast3r", alignment=CONFIDENT, grid=(512, 512))
CUT3R = replace(
    SPANN3R,
    name="cut3r",
    frames=_frames(200),
    alignment=MEDIANS_CENTER,
    grid=(384, 512),
    mask="valid truth only, for both sides, and of it the central "
    f"{2 * CENTER} rows and columns; no confidence",
)
PI3_SPARSE = replace(
    SPANN3R,
    name="pi3-sparse",
    frames=_frames(200),
    alignment=ONE_SIMILARITY,
    grid=(392, 518),
    fit="squash",
    rules={
        **_RULES,
        "intrinsics": "of the resized image, not their K, whose x-focal is 0.9 percent too long",
    },
)
PI3_DENSE = replace(PI3_SPARSE, name="pi3-dense", frames=_frames(40))
POINT_PROTOCOLS = (SPANN3R, FAST3R, CUT3R, PI3_SPARSE, PI3_DENSE)
