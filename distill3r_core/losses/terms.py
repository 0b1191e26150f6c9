"""The terms that a training objective may have, by name."""

from distill3r_core.losses import (
    confidence,
    feature_similarity,
    gradients,
    planes,
    points,
    pose,
    regression,
    scale,
    scene_points,
)
from distill3r_core.losses.loss_term import LossTerm
from distill3r_core.registry import Registry

__all__ = ["LOSS_TERMS", "LossTerm"]

LOSS_TERMS: Registry[LossTerm] = Registry("loss term")

LOSS_TERMS.add("points_global", points.GLOBAL)
LOSS_TERMS.add("points_local", points.LOCAL)
LOSS_TERMS.add("confidence", confidence.CONFIDENCE)
LOSS_TERMS.add("scale", scale.SCALE)
LOSS_TERMS.add("pose", pose.POSE)
LOSS_TERMS.add("regression", regression.REGRESSION)
LOSS_TERMS.add("gradient", gradients.GRADIENTS)
LOSS_TERMS.add("feature", feature_similarity.FEATURES)
LOSS_TERMS.add("relational", feature_similarity.RELATIONS)
LOSS_TERMS.add("planar", planes.PLANES)
LOSS_TERMS.add("scene_points", scene_points.SCENE_POINTS)
