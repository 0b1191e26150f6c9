"""Errors of depth maps after an alignment: AbsRel, SqRel, RMSE, log RMSE, deltas, TGM.

The definitions are those of Eigen et al. (NIPS 2014). Depth is in any unit that both sides share.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class DepthErrors:
    """Errors over the pixels that count; NaN where there are none or a prediction is NaN.

    Args:
        ratios: max(d/g, g/d) of each pixel, at least 1; NaN where the prediction is.
    """

    abs_rel: float  # mean of |d - g| / g
    sq_rel: float  # mean of (d - g)^2 / g, in the unit of depth
    rmse: float
    log_rmse: float  # natural logarithm
    ratios: Float[Tensor, " P"]

    def share_within(self, ratio: float) -> float:
        """Share of pixels with max(d/g, g/d) < ratio; a NaN prediction counts as a failed pixel.

        With 1.25, 1.25^2 and 1.25^3 these are the deltas, with 1.03 the inliers of SpatialBench.
        """
        return float((self.ratios < ratio).double().mean())


def depth_errors(
    predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"], *, least: float = 1e-5
) -> DepthErrors:
    """Compare depth pixel by pixel, in float64.

    Args:
        predicted: Aligned depth d of the pixels that count.
        truth: Their true depth g, greater than 0.
        least: Predicted depth is raised to this for the logarithm and the ratios alone, which a
            depth of 0 does not have (CUT3R and Pi3: 1e-5).
    """
    d, g = predicted.double(), truth.double()
    difference = d - g
    raised = d.clamp(min=least)
    return DepthErrors(
        abs_rel=float((difference.abs() / g).mean()),
        sq_rel=float((difference.square() / g).mean()),
        rmse=float(difference.square().mean().sqrt()),
        log_rmse=float((raised.log() - g.log()).square().mean().sqrt()),
        ratios=torch.maximum(raised / g, g / raised),
    )


def temporal_gradient_error(
    predicted: Float[Tensor, "N H W"],
    truth: Float[Tensor, "N H W"],
    mask: Bool[Tensor, "N H W"],
) -> float:
    """TGM of SpatialBench: how well the mean change of depth from frame to frame is kept.

    The mean over neighboring frames of |mean|d' - d| - mean|g' - g||, on the pixels that count in
    both frames; NaN with fewer than two frames or where a pair of frames shares no pixel.
    """
    both = mask[1:] & mask[:-1]
    changes = [
        torch.where(both, depth.double().diff(dim=0).abs(), 0.0).sum((-2, -1)) / both.sum((-2, -1))
        for depth in (predicted, truth)
    ]
    return float((changes[0] - changes[1]).abs().mean())
