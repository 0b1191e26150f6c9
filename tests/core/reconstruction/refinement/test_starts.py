import torch
from exact_room import exact_room, perturbed, turns_off

from distill3r_core.reconstruction.refinement.joint import ViewStates
from distill3r_core.reconstruction.refinement.motions import chain, exponential, inverse
from distill3r_core.reconstruction.refinement.refine import refine_poses
from distill3r_core.reconstruction.refinement.starts import starts_by_neighbors
from distill3r_core.reconstruction.refinement.warp import PairStates

PAIRS = torch.tensor([[0, 1], [1, 2], [0, 2]])
SIZES = torch.tensor([0.0, 0.3, -0.2], dtype=torch.float64)  # log scales of the views' depths


def steady_camera():
    """A camera that keeps moving: its poses, and the true states of all pairs, both ways."""
    twist = torch.tensor([0.1, -0.2, 0.05, 0.4, 0.1, 0.3], dtype=torch.float64)
    step = exponential(twist)
    poses = torch.stack([torch.eye(3, 4, dtype=torch.float64), step, chain(step, step)])
    source, target = torch.cat([PAIRS, PAIRS.flip(1)]).T
    motion = chain(inverse(poses[target]), poses[source])
    motion[:, :, 3] /= SIZES[source].exp()[:, None]  # in the unit of the source's depth
    zero = torch.zeros(len(source), dtype=torch.float64)
    return poses, PairStates(source, target, motion, zero, SIZES[target] - SIZES[source], zero)


def forget(states, pairs):
    """The states, but of some pairs nothing is known."""
    still = torch.eye(3, 4, dtype=torch.float64)
    motion, scale = states.motion.clone(), states.target_scale.clone()
    motion[pairs], scale[pairs] = still, 0.0
    return PairStates(
        states.source, states.target, motion, states.source_scale, scale, states.focal
    )


def test_a_pair_may_start_from_the_motion_along_accepted_ones_in_its_own_unit():
    poses, states = steady_camera()
    chained = ViewStates(poses, SIZES, torch.zeros((), dtype=torch.float64))
    accepted = torch.tensor([True, True, False])
    chosen, (chain_start, *_) = starts_by_neighbors(
        forget(states, [2, 5]), accepted, chained, torch.zeros(3, dtype=torch.long)
    )
    assert chosen.tolist() == [2, 5]  # 0 to 2, and back
    torch.testing.assert_close(chain_start.motion, states.motion[chosen])
    torch.testing.assert_close(chain_start.target_scale, states.target_scale[chosen])


def test_neighbors_may_start_from_the_motion_just_before_of_a_camera_that_keeps_moving():
    poses, states = steady_camera()
    unknown = torch.tensor([0.0, SIZES[1], 0.0], dtype=torch.float64)
    chained = ViewStates(poses.clone(), unknown, torch.zeros((), dtype=torch.float64))
    accepted = torch.tensor([True, False, False])
    chosen, (_, before, after) = starts_by_neighbors(
        forget(states, [1, 2, 4, 5]), accepted, chained, torch.tensor([0, 0, 2])
    )
    assert chosen.tolist() == [1, 4]  # 1 to 2, and back; 0 and 2 are no neighbors
    torch.testing.assert_close(before.motion[0], states.motion[1])
    # Back, it is the motion that follows, whose unit is the depth of view 1.
    back = states.motion[4].clone()
    back[:, 3] *= (SIZES[2] - SIZES[1]).exp()
    torch.testing.assert_close(after.motion[1], back)


def test_a_far_pair_is_accepted_only_by_way_of_its_neighbors():
    images, points, poses = exact_room(seed=3, views=5, degrees=60.0)
    start = perturbed(poses, turn=0.4, shift=0.6)
    far = torch.tensor([0, 2])
    alone = refine_poses(images[far], points[far], start[far])
    assert not alone.accepted.any() and not alone.aligned.any()
    found = refine_poses(images[:3], points[:3], start[:3])
    accepted = [tuple(pair) for pair in found.pairs[found.accepted].tolist()]
    assert accepted == [(0, 1), (0, 2), (1, 2)]
    assert turns_off(found.world_from_local, poses[:3]).max() < 0.2
