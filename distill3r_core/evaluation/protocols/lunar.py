"""The protocol `lunar`: pairs of consecutive images of ground (arXiv:2607.01851)."""

from distill3r_core.evaluation.protocols.frame_rules import ConsecutiveFrames
from distill3r_core.evaluation.protocols.record import Protocol
from distill3r_core.evaluation.protocols.sequence_alignments import ICP_THRESHOLD, ONE_SIMILARITY
from distill3r_core.evaluation.terrain.ground_depth import STRUCTURE_METRICS
from distill3r_core.evaluation.terrain.pair_metrics import PAIR_METRICS
from distill3r_core.evaluation.terrain.slope_metrics import GROUND_METRICS, HAZARDS

_PAIR = 2

LUNAR = Protocol(
    name="lunar",
    frames=ConsecutiveFrames(
        _PAIR,
        text="all frames (without --data all validation frames of the run), in pairs of "
        "consecutive ones",
    ),
    alignment=ONE_SIMILARITY,
    metrics=(
        *("acc", "comp", "chamfer", "delta_125"),
        *(metric.name for metric in (*GROUND_METRICS, *STRUCTURE_METRICS, *PAIR_METRICS)),
        *("rra_5", "rta_5", "auc_30"),
    ),
    columns=(
        *("chamfer", "depth_mae", "slope_mae", "slope_correlation"),
        *(f"hazard_{degrees}" for degrees in HAZARDS),
    ),
    grid=(384, 512),
    source="held-out",
    rules={
        "depth": "one ratio of medians for both images",
        "slope": "arc tangent of Sobel / 8 of depth per pixel, in degrees; pixels whose neighbors "
        "are all valid",
        "SSIM": "of depth, Gaussian of 11 pixels, sigma 1.5, constants 0.01 and 0.03 of the range "
        "of true depth; windows in the image whose pixels are all valid",
        "profile": "mean error of depth along the middle row",
        "overlap": "of the first view's pixels whose true point the second one sees between four "
        "valid pixels, within 1 % of the depth there: mean distance of the two predicted points; "
        "maps and poses times one ratio of medians of depth",
        "VCRE": "of the true points of the second view, from their pixels to where the predicted "
        "pose puts them (its translation times the same ratio); behind the camera or farther: the "
        "image's diagonal",
        "not as in arXiv:2607.01851": "the similarity is least squares over all valid pixels, not "
        f"RANSAC's; ICP is point to point within {ICP_THRESHOLD} m whatever the distance of the "
        "ground, not point to plane; clouds are all valid pixels, not 20,000 points; what SSIM, "
        "profile, overlap and VCRE are there is not published: these are the definitions above",
    },
)
