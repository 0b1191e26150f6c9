"""Rooms whose images, depth and poses are exact, for the refinement of poses."""

import torch

from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.similarity import scale_of
from distill3r_core.reconstruction.refinement.motions import (
    chain,
    exponential,
    inverse,
    turn_degrees,
)
from distill3r_core.scenes.render import render_scene

SIZE, VIEWS = (56, 77), 4


def exact_room(seed=3, views=VIEWS, degrees=15.0):
    """Images, local points and `world_from_cam` in the frame of the first camera."""
    room = render_scene(seed, views, SIZE, degrees=degrees)
    poses = room.world_from_cam.double()[:, :3]
    poses = chain(inverse(poses[:1]).expand_as(poses), poses)
    return room.images, unproject(room.depth, room.intrinsics), poses


def perturbed(poses, seed=0, turn=0.1, shift=0.2):
    generator = torch.Generator().manual_seed(seed)
    twists = torch.randn(len(poses), 6, dtype=torch.float64, generator=generator)
    twists[:, :3] *= turn
    twists[:, 3:] *= shift
    twists[0] = 0
    return chain(poses, exponential(twists))


def turns_off(found, poses):
    """Degrees by which the turns between all views differ from the true ones."""
    rigid = torch.cat([found[:, :, :3] / scale_of(found)[:, None, None], found[:, :, 3:]], -1)
    a, b = torch.combinations(torch.arange(len(poses))).T
    true = chain(inverse(poses[a]), poses[b])
    return turn_degrees(chain(inverse(true), chain(inverse(rigid[a]), rigid[b])))
