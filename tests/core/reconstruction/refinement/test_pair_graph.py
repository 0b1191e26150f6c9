import torch

from distill3r_core.reconstruction.refinement.joint import ViewStates, close_loops
from distill3r_core.reconstruction.refinement.judgement import contradicted_pairs
from distill3r_core.reconstruction.refinement.motions import (
    chain,
    exponential,
    inverse,
    turn_degrees,
)
from distill3r_core.reconstruction.refinement.pair_graph import (
    candidate_pairs,
    groups_of,
    spanning_tree,
)
from distill3r_core.reconstruction.refinement.warp import PairStates


def test_few_views_are_all_paired_and_many_with_neighbors_lookalikes_and_those_that_overlap():
    assert len(candidate_pairs(torch.rand(6, 4), torch.rand(6, 6))) == 15
    appearance, overlap = torch.eye(40), torch.zeros(40, 40)
    appearance[30] = appearance[2] + 0.01 * appearance[30]
    overlap[5, 35] = 0.9
    found = {tuple(pair) for pair in candidate_pairs(appearance, overlap).tolist()}
    assert {(0, 1), (0, 2), (0, 3), (2, 30), (5, 35)} <= found
    assert all(a < b for a, b in found) and len(found) < 40 * 9


def test_the_tree_takes_the_best_pairs_and_groups_are_what_they_connect():
    pairs = torch.tensor([[0, 1], [1, 2], [0, 2], [3, 4], [4, 5]])
    quality = torch.tensor([0.9, 0.2, 0.8, 0.7, 0.0])
    edges = spanning_tree(6, pairs, quality)
    assert edges == [(0, 1, 0), (0, 2, 2), (3, 4, 3)]
    assert groups_of(6, pairs, quality > 0).tolist() == [0, 0, 0, 3, 3, 5]


def test_a_ring_of_cameras_closes_in_spite_of_drift_and_a_wrong_pair():
    count = 12
    generator = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.arange(count, dtype=torch.float64) / count
    twist = torch.zeros(count, 6, dtype=torch.float64)
    twist[:, 1] = angle
    poses = exponential(twist)
    poses[:, 0, 3], poses[:, 2, 3] = 3 * angle.sin(), 3 * angle.cos()
    forth = torch.tensor([[i, (i + k) % count] for k in (1, 2) for i in range(count)])
    source, target = torch.cat([forth, forth.flip(1)]).T
    noise = 0.005 * torch.randn(len(source), 6, dtype=torch.float64, generator=generator)
    motion = chain(exponential(noise), chain(inverse(poses[target]), poses[source]))
    wrong = torch.tensor([0.0, 0.8, 0.1, 1.0, 0.0, 2.0], dtype=torch.float64)
    motion[5] = chain(exponential(wrong), motion[5])
    zero = torch.zeros(len(source), dtype=torch.float64)
    pairs = PairStates(source, target, motion, zero, zero, zero)
    chained = poses.clone()
    for view in range(1, count):
        back = motion[len(forth) + view - 1]  # from view to the one before
        chained[view] = chain(chained[view - 1], back)
    chained[6:] = chain(exponential(wrong / 4).expand(6, 3, 4), chained[6:])
    start = ViewStates(chained, torch.zeros(count, dtype=torch.float64), zero[0])
    matrix = torch.eye(9, dtype=torch.float64).repeat(len(source), 1, 1)
    found = close_loops(start, pairs, matrix, zero + 1)

    def off(views):
        true = chain(inverse(poses[:1]).expand_as(poses), poses)
        return turn_degrees(chain(inverse(true), chain(inverse(views[:1]).expand_as(views), views)))

    assert off(start.world_from_cam).max() > 8
    assert off(found.world_from_cam).max() < 1.0
    # The size of the whole is free.
    assert (found.scale - found.scale.mean()).abs().max() < 0.05


def test_a_pair_that_closes_no_triangle_is_contradicted_and_one_in_no_triangle_is_not():
    twists = torch.tensor([[0.1 * k, -0.2 * k, 0.05 * k, k, 0, 1] for k in range(6)]).double()
    poses = exponential(twists)
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3], [4, 5], [3, 4]])
    motion = chain(inverse(poses[pairs[:, 1]]), poses[pairs[:, 0]])
    every = torch.ones(len(pairs), dtype=torch.bool)
    assert not contradicted_pairs(pairs, motion, every).any()
    wrong = motion.clone()
    for pair in (5, 6):  # one of four triangles' views, and one that no triangle checks
        wrong[pair] = chain(exponential(torch.tensor([0, 0.3, 0, 0, 0, 0]).double()), motion[pair])
    found = contradicted_pairs(pairs, wrong, every)
    assert found.nonzero().flatten().tolist() == [5]
    assert not contradicted_pairs(pairs, wrong, torch.zeros_like(every)).any()
    slightly = chain(exponential(torch.full((8, 6), 0.01).double()), motion)
    assert not contradicted_pairs(pairs, slightly, every).any()
