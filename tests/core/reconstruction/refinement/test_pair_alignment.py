import dataclasses

import torch

from distill3r_core.reconstruction.refinement.motions import (
    chain,
    exponential,
    inverse,
    turn_degrees,
)
from distill3r_core.reconstruction.refinement.pair_alignment import align_pairs, select
from distill3r_core.reconstruction.refinement.pyramid import build_pyramid
from distill3r_core.reconstruction.refinement.warp import PairStates, warp
from distill3r_core.scenes.render import render_scene

SIZE = (56, 77)


def ramps():
    """Two views whose brightness and log depth are linear in the pixel: bilinear reading is exact
    there, and so are central differences."""
    v, u = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    gray = torch.stack([0.2 + 0.01 * u + 0.02 * v, 0.7 - 0.015 * u + 0.005 * v]).double()
    depth = torch.stack([0.7 + 0.01 * u - 0.01 * v, 0.9 + 0.02 * u + 0.005 * v]).double().exp()
    K = torch.tensor([[25.0, 0, 15], [0, 27, 10], [0, 0, 1]]).double().repeat(2, 1, 1)
    images = gray[:, None].expand(2, 3, 20, 30)
    return build_pyramid(images, depth, torch.ones_like(depth, dtype=torch.bool), K)[-1]


def test_slopes_of_a_pixel_are_those_of_finite_differences():
    level = ramps()
    zero = torch.zeros(1, dtype=torch.float64)
    twist = torch.tensor([[0.03, -0.05, 0.1, 0.1, -0.2, 0.15]], dtype=torch.float64)
    first, second = torch.tensor([0]), torch.tensor([1])
    state = PairStates(first, second, exponential(twist), zero + 0.1, zero - 0.2, zero + 0.05)
    known = warp(level, state)
    assert known.brightness_slopes is not None and known.depth_slopes is not None
    inside = torch.zeros(20, 30, dtype=torch.bool)
    inside[6:14, 8:22] = True  # whose points land where central differences have both neighbors
    inside = inside.flatten() & known.seen[0]
    assert inside.sum() > 50
    size = 1e-6
    for index in range(9):
        ends = []
        for change in (size, -size):
            if index < 6:
                step = torch.zeros(1, 6, dtype=torch.float64)
                step[0, index] = change
                moved = dataclasses.replace(state, motion=chain(exponential(step), state.motion))
            else:
                name = ("source_scale", "target_scale", "focal")[index - 6]
                moved = dataclasses.replace(state, **{name: getattr(state, name) + change})
            ends.append(warp(level, moved, slopes=False))
        for name, slopes in (("found", known.brightness_slopes), ("depth", known.depth_slopes)):
            difference = (getattr(ends[0], name) - getattr(ends[1], name)) / (2 * size)
            torch.testing.assert_close(
                difference[0, inside], slopes[index, 0, inside], rtol=1e-4, atol=1e-6
            )


def test_pairs_are_aligned_alike_together_and_alone_from_far_starts():
    room = render_scene(5, 3, SIZE, degrees=12.0)
    mask = torch.ones_like(room.depth, dtype=torch.bool)
    levels = build_pyramid(room.images, room.depth, mask, room.intrinsics)
    poses = room.world_from_cam.double()[:, :3]
    source, target = torch.tensor([[0, 1, 2], [1, 2, 0]])
    true = chain(inverse(poses[target]), poses[source])
    still = torch.eye(3, 4, dtype=torch.float64).repeat(3, 1, 1)
    zero = torch.zeros(3, dtype=torch.float64)
    start = PairStates(source, target, still, zero, zero + 0.2, zero)
    together = align_pairs(levels, start)
    assert turn_degrees(chain(inverse(true), together.motion)).max() < 0.2
    assert together.target_scale.abs().max() < 0.01
    for index in range(3):
        alone = align_pairs(levels, select(start, torch.tensor([index])))
        torch.testing.assert_close(alone.motion[0], together.motion[index], rtol=1e-3, atol=1e-3)
