"""Two views in closed form: no optimization is needed where one pair says everything."""

import torch

from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import fit_similarity
from distill3r_core.teachers.pairwise.optimization import Aligned
from distill3r_core.teachers.pairwise.predictions import PairPredictions
from distill3r_core.teachers.pairwise.tree import own_focal


def place_two(pairs: PairPredictions, *, center: float = 0.5) -> Aligned:
    """Both views in the frame of the better order's first camera.

    The pose of its second view is that of the similarity which carries the view's own map, from
    the other order, onto its map in the first camera. (The published viewer runs PnP instead.)

    Args:
        pairs: Predictions of two views, in both orders.
        center: Where in its pixel a point was seen.

    Raises:
        GeometryError: The maps of the second view do not determine its pose.
    """
    assert pairs.views == 2 and len(pairs.edges) == 2, "two views, in both orders"
    best = int(pairs.score().argmax())
    first, second = pairs.edges[best].tolist()
    focals = torch.ones(2)
    depth = torch.zeros(2, pairs.points_i.shape[1])
    unplaced = []
    for edge, view in enumerate(pairs.edges[:, 0].tolist()):
        focal = own_focal(pairs, edge, center=center)
        focals[view] = max(pairs.sizes[view]) if focal is None else focal
        unplaced += [view] if focal is None else []
    count = pairs.pixels_of(second)
    own, moved = pairs.points_i[1 - best, :count].float(), pairs.points_j[best, :count].float()
    weights = (pairs.confidence_i[1 - best, :count] * pairs.confidence_j[best, :count]).float()
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[second] = pose = rigid_of(fit_similarity(own, moved, weights))
    depth[first, : pairs.pixels_of(first)] = pairs.points_i[
        best, : pairs.pixels_of(first), 2
    ].float()
    depth[second, :count] = ((moved - pose[:3, 3]) @ pose[:3, :3])[:, 2]
    return Aligned(depth=depth, world_from_cam=poses, focals=focals, scales=torch.ones(2), loss=0.0)
