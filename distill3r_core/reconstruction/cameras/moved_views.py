"""Views that are placed anew: by COLMAP, or by the alignment of their images."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import compose, invert_similarity
from distill3r_core.reconstruction.reconstruction import PosedView


def moved_views(
    views: Sequence[PosedView], world_from_local: Float[Tensor, "N 3 4"]
) -> tuple[PosedView, ...]:
    """Views at other places, in the frame of the first one's camera; global points move along.

    Args:
        views: With local maps.
        world_from_local: The similarity that carries each local map into one world.
    """
    back = invert_rigid(rigid_of(world_from_local[0]))[:3]
    moved = []
    for index, (view, placed) in enumerate(zip(views, world_from_local, strict=True)):
        assert view.aligned is not None
        similarity = compose(back, placed)
        pose = np.eye(4) if index == 0 else rigid_of(similarity).numpy()
        old = torch.from_numpy(view.aligned.world_from_local)
        change = compose(similarity, invert_similarity(old)).numpy().astype(np.float32)
        points = view.global_map.points @ change[:, :3].T + change[:, 3]
        moved.append(
            dataclasses.replace(
                view,
                global_map=dataclasses.replace(view.global_map, points=points),
                aligned=dataclasses.replace(view.aligned, world_from_local=similarity.numpy()),
                camera=dataclasses.replace(view.camera, world_from_cam=pose),
            )
        )
    return tuple(moved)
