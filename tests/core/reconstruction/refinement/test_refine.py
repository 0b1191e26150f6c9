import torch
from exact_room import SIZE, VIEWS, exact_room, perturbed, turns_off

from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.similarity import compose, scale_of
from distill3r_core.reconstruction.refinement.motions import chain, exponential, inverse
from distill3r_core.reconstruction.refinement.refine import refine_poses
from distill3r_core.report import Silent
from distill3r_core.scenes.render import render_scene


def test_exact_depth_brings_perturbed_poses_back():
    images, points, poses = exact_room()
    start = perturbed(poses)
    assert turns_off(start, poses).median() > 5
    found = refine_poses(images, points, start)
    assert found.aligned.all() and found.accepted.all()
    assert turns_off(found.world_from_local, poses).max() < 0.1
    assert abs(found.focal_factor - 1) < 0.01
    scales = scale_of(found.world_from_local)
    assert (scales / scales.mean() - 1).abs().max() < 0.01


class Phases(Silent):
    """Counts the steps of every phase."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list] = []

    def begin(self, label, *, total, unit, done=0):
        self.found.append([label, total, done])

    def advance(self, steps=1, **figures):
        self.found[-1][2] += steps


def test_every_phase_reports_its_steps_up_to_its_total():
    images, points, poses = exact_room(views=3)
    phases = Phases()
    refine_poses(images, points, perturbed(poses, turn=0.03, shift=0.05), progress=phases)
    assert [label for label, _, _ in phases.found] == [
        "find starts", "align pairs", "refine jointly",
    ]  # fmt: skip
    assert all(total == done > 0 for _, total, done in phases.found)


def test_the_frame_and_unit_of_the_world_do_not_matter():
    images, points, poses = exact_room(views=3)
    start = perturbed(poses, turn=0.03, shift=0.05)
    world = exponential(torch.tensor([0.4, -1.1, 0.7, 3.0, -2.0, 1.0], dtype=torch.float64))
    world = 1e3 * world
    found = refine_poses(images, points, start).world_from_local
    moved = refine_poses(images, points, compose(world.expand_as(start), start)).world_from_local
    torch.testing.assert_close(moved, compose(world.expand_as(found), found), rtol=1e-3, atol=1.0)


def test_another_exposure_changes_nothing_and_a_view_of_elsewhere_keeps_its_pose():
    images, points, poses = exact_room()
    elsewhere = render_scene(11, 1, SIZE)
    other = unproject(elsewhere.depth, elsewhere.intrinsics)
    images = torch.cat([images, elsewhere.images])
    images[1] = 0.6 * images[1] + 0.2
    points = torch.cat([points, other])
    start = torch.cat([perturbed(poses), exponential(torch.ones(1, 6, dtype=torch.float64))])
    found = refine_poses(images, points, start)
    assert found.aligned.tolist() == [True] * VIEWS + [False]
    assert found.residual[-1].isnan() and found.residual[:-1].max() < 0.01
    torch.testing.assert_close(found.world_from_local[-1], start[-1], rtol=0, atol=0)
    assert turns_off(found.world_from_local[:VIEWS], poses).max() < 0.2


def test_views_of_which_no_pair_is_promising_keep_their_poses():
    rooms = [render_scene(seed, 1, SIZE) for seed in (3, 11)]
    images = torch.cat([room.images for room in rooms])
    images[1] = images[1].flip(-1)
    points = torch.cat([unproject(room.depth, room.intrinsics) for room in rooms])
    points[1] *= torch.linspace(0.2, 3.0, SIZE[1])[:, None]  # depths agree nowhere
    start = torch.eye(3, 4, dtype=torch.float64).repeat(2, 1, 1)
    start[1, 0, 3] = 0.5
    found = refine_poses(images, points, start)
    assert not found.aligned.any() and not found.accepted.any() and not found.contradicted.any()
    assert torch.equal(found.world_from_local, start)


def test_wrong_scales_of_views_and_a_wrong_focal_length_are_refined_with_the_poses():
    room = render_scene(3, VIEWS, SIZE, degrees=30.0)
    poses = room.world_from_cam.double()[:, :3]
    poses = chain(inverse(poses[:1]).expand_as(poses), poses)
    longer = room.intrinsics.clone()
    longer[:, :2, :2] *= 1.1
    wrong = torch.tensor([1.0, 1.2, 0.8, 1.2], dtype=torch.float64)
    start = perturbed(poses, turn=0.03, shift=0.05)
    start[:, :, :3] *= wrong[:, None, None]
    found = refine_poses(room.images, unproject(room.depth, longer), start, intrinsics=longer)
    assert found.aligned.all()
    # The focal length is held by what is known beforehand: most of its error goes, not all.
    assert abs(1.1 * found.focal_factor - 1) < 0.05
    scales = scale_of(found.world_from_local)
    assert (scales / scales.mean() - 1).abs().max() < 0.01
    assert turns_off(found.world_from_local, poses).max() < 1.0


def test_each_step_is_where_the_work_ends_if_asked_and_the_last_is_the_default():
    images, points, poses = exact_room()
    generator = torch.Generator().manual_seed(4)
    bumps = torch.randn(VIEWS, 1, 3, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(bumps, SIZE, mode="bicubic", align_corners=True)[:, 0]
    points = points * (0.05 * smooth).exp()[..., None]
    start = perturbed(poses, turn=0.03, shift=0.05)
    found = [
        refine_poses(images, points, start, until=step) for step in ("pairs", "loops", "joint")
    ]
    whole = refine_poses(images, points, start)
    assert torch.equal(found[2].world_from_local, whole.world_from_local)
    assert found[0].focal_factor == found[1].focal_factor == 1 != found[2].focal_factor
    assert not torch.equal(found[0].world_from_local, found[1].world_from_local)
    assert all(torch.equal(step.accepted, whole.accepted) for step in found)
    off = [float(turns_off(step.world_from_local, poses).max()) for step in found]
    assert off[2] < off[0] < float(turns_off(start, poses).max())
