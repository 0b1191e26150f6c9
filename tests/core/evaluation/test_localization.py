"""Protocol `localization`: exact coordinates give the pose, and errors are those worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.predictions import in_world, predict_truth
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.protocols.frame_rules import DisjointFrames
from distill3r_core.evaluation.scores import figures_of, score_sequence
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.pnp import SCENE_BOUND, AgreementBound
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student
from distill3r_core.models.scene.frames import SPACING, network_from_scene, place_named
from distill3r_core.models.scene.spec import SceneFrame
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.loaded_views import views_of_images
from distill3r_core.reconstruction.prediction import scene_pass
from distill3r_core.reconstruction.prediction.scene_pass import scene_frame_problem, scene_raw_maps
from distill3r_core.reconstruction.view_maps import ViewMaps
from distill3r_core.scenes import render_scene
from distill3r_core.types import PointMap, PointMaps

LOCALIZATION = PROTOCOLS["localization"]
SIZE = (28, 42)


@pytest.fixture(scope="module")
def truth() -> Truth:
    """Four views of a rendered room, whose world is turned and moved away from the room's own."""
    scene = render_scene(0, 4, SIZE)
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, :3] = torch.from_numpy(Rotation.random(random_state=0).as_matrix())
    moved[:3, 3] = torch.tensor([10.0, -4.0, 2.0])
    poses = moved @ scene.world_from_cam.double()
    return Truth(
        name="rooms/room",
        world="rooms/room",
        view_names=("a", "b", "c", "d"),
        views=(),
        points=unproject(scene.depth, scene.intrinsics),
        mask=torch.ones(4, *SIZE, dtype=torch.bool),
        intrinsics=scene.intrinsics,
        poses=poses,
        unit="m",
        contents=(),
        world_poses=poses,
    )


def figures(truth, maps):
    return figures_of([score_sequence(truth, maps, LOCALIZATION)], LOCALIZATION)


def test_the_truth_has_no_error(truth):
    found = figures(truth, predict_truth(truth))
    assert found["location_median"] == 0
    assert found["location_rotation_median"] == pytest.approx(0, abs=1e-5)
    assert found["location_near"] == 1
    assert found["coordinate_mse_metric"] == 0
    assert found["coordinate_mse"] is None  # a radius is the student's
    unscaled = replace(truth, unit="none")
    assert figures(unscaled, predict_truth(unscaled))["coordinate_mse_metric"] is None


def test_exact_coordinates_of_a_student_give_its_poses(truth):
    student = build_student("scene-cnn", network={"width": 8})
    frames = (SceneFrame(name="r", center=(9.0, -3.0, 1.0), scale=2.5, metric=True, posed=True),)
    student.spec = replace(student.spec, scenes=frames)
    world = apply_similarity(truth.world_poses[:, :3], truth.points.double())
    network = apply_similarity(network_from_scene(frames, 0), world)[None].float()
    maps = scene_raw_maps(
        student, PointMaps(network, None, torch.ones(network.shape[:-1]), None), truth.intrinsics
    )
    found = figures(truth, maps)
    assert found["location_median"] < 0.01  # centimeters
    assert found["location_rotation_median"] < 0.01
    assert found["location_near"] == 1
    assert found["coordinate_mse"] < 1e-10
    torch.testing.assert_close(
        torch.stack(list(maps.points_local)), truth.points, atol=1e-3, rtol=0
    )
    # An error of 10 cm along one axis: of squared radii, and of square meters.
    shifted = [one + torch.tensor([0.1, 0.0, 0.0]) for one in maps.scene.points]
    found = figures(truth, replace(maps, scene=replace(maps.scene, points=shifted)))
    assert found["coordinate_mse_metric"] == pytest.approx(0.01 / 3, rel=1e-3)
    assert found["coordinate_mse"] == pytest.approx(0.01 / 3 / 2.5**2, rel=1e-3)
    assert found["coordinate_median"] == pytest.approx(10, rel=1e-3)


def test_errors_of_poses_by_hand(truth):
    turned = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    for view, degrees in enumerate((0.0, 4.0, 6.0, 0.0)):
        turned[view, :3, :3] = torch.from_numpy(
            Rotation.from_euler("y", degrees, degrees=True).as_matrix()
        )
    poses = truth.world_poses @ turned
    poses[:, :3, 3] += torch.tensor([[0.02, 0, 0], [0, 0.04, 0], [0, 0, 0.01], [0, 0, 0]])
    poses[3] = math.nan  # PnP found no pose
    found = figures(truth, in_world(predict_truth(truth), poses))
    assert found["location_median"] == pytest.approx((2 + 4) / 2)
    assert found["location_rotation_median"] == pytest.approx((4 + 6) / 2)
    assert found["location_near"] == 2 / 4  # the second last is turned too far


def test_a_frame_that_is_not_the_datas_own_is_not_scored(truth):
    student = build_student("scene-cnn", network={"width": 8})
    frame = SceneFrame(name="r", center=(0.0, 0.0, 0.0), scale=1.0)
    student.spec = replace(student.spec, scenes=(frame,))
    points = apply_similarity(truth.world_poses[:, :3], truth.points.double())[None].float()
    maps = PointMaps(points, None, torch.ones(points.shape[:-1]), None)
    assert scene_raw_maps(student, maps, truth.intrinsics).scene is None


def test_baselines_of_other_poses_have_no_place_in_the_scene(truth):
    maps = predict_truth(truth)
    assert maps.scene is not None
    assert BASELINES["constant_depth"].predict(truth, None).scene is None


def test_disjoint_windows_show_every_frame_once():
    windows = DisjointFrames(3, "")("any", {"a": [None] * 7, "b": [None] * 2})
    assert [(one.name, one.frames) for one in windows] == [
        ("a/000000", (0, 1, 2)), ("a/000003", (3, 4, 5)), ("a/000006", (6,)), ("b", (0, 1)),
    ]  # fmt: skip


def test_cameras_in_a_scene_are_found_without_their_focal_length(truth):
    scene = render_scene(0, 4, SIZE)
    pixels = [(255 * one).round().byte().movedim(0, -1).numpy() for one in scene.images]
    views = views_of_images(pixels, [None] * 4, ImageFit(size=SIZE))
    points = apply_similarity(truth.world_poses[:, :3], truth.points.double()).numpy()
    ones = np.ones(SIZE, np.float32)
    maps = [ViewMaps(PointMap(one.astype(np.float32), ones), None) for one in points]
    solved = solve_cameras(views, maps, poses="pnp", in_scene=True)
    assert len(solved.views) == 4
    for view, pose, camera in zip(solved.views, truth.world_poses, truth.intrinsics, strict=True):
        assert view.camera.intrinsics[0, 0] == pytest.approx(float(camera[0, 0]), rel=0.02)
        assert np.linalg.norm(view.camera.world_from_cam[:3, 3] - pose[:3, 3].numpy()) < 0.05
        np.testing.assert_array_equal(view.global_map.points.shape, (*SIZE, 3))


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ((False,), "without the poses"),
        ((False, True), "it learned room without the poses"),
        ((True, True), None),
        ((True,), None),
        ((), "no scene"),
    ],
)
def test_a_student_says_why_it_has_no_place_in_the_scene(truth, frames, problem):
    student = build_student("scene-cnn", network={"width": 8})
    scenes = tuple(
        SceneFrame(name=name, center=(0.0, 0.0, 0.0), scale=1.0, posed=posed)
        for name, posed in zip(("room", "attic"), frames, strict=False)
    )
    student.spec = replace(student.spec, scenes=scenes)
    found = scene_frame_problem(student)
    assert (found is None) == (problem is None) and (problem or "") in (found or "")
    points = apply_similarity(truth.world_poses[:, :3], truth.points.double())[None].float()
    maps = PointMaps(points, None, torch.ones(points.shape[:-1]), None)
    placed = scene_raw_maps(student, maps, truth.intrinsics, world=truth.world).scene
    assert (placed is None) == (problem is not None)


def test_a_view_that_is_placed_in_another_scene_is_infinitely_far(truth):
    student = build_student("scene-cnn", network={"width": 8})
    frames = tuple(
        SceneFrame(name=name, center=center, scale=scale, metric=True, posed=True)
        for name, center, scale in (
            ("attic", (0.0, 0.0, 0.0), 1.0),
            ("room", (9.0, -3.0, 1.0), 2.5),
        )
    )
    student.spec = replace(student.spec, scenes=frames)
    world = apply_similarity(truth.world_poses[:, :3], truth.points.double())
    network = apply_similarity(network_from_scene(frames, 1), world)[None].float()

    def placed(points, world=truth.world):
        maps = PointMaps(points, None, torch.ones(points.shape[:-1]), None)
        return scene_raw_maps(student, maps, truth.intrinsics, world=world)

    found = figures(truth, placed(network))
    assert found["location_median"] < 0.01
    assert found["location_near"] == 1
    assert found["coordinate_mse"] < 1e-10
    moved = network.clone()
    moved[:, 2, ..., 0] -= SPACING  # into the attic
    found = figures(truth, placed(moved))
    assert found["location_near"] == 3 / 4
    assert found["location_median"] < 0.01
    assert found["coordinate_mse"] is None  # no mean of what is infinite
    everywhere = figures(truth, placed(network - torch.tensor([SPACING, 0, 0])))
    assert everywhere["location_near"] == 0
    assert placed(network, "rooms/cellar").scene is None  # it has not learned that one
    assert placed(network, "room").scene is not None


@pytest.mark.parametrize(
    ("world", "names", "place"),
    [
        ("rooms/room-1", ("room-0", "room-1"), 1),
        ("rooms/room-1", ("rooms/room-0", "rooms/room-1"), 1),
        ("room-1", ("rooms/room-0", "rooms/room-1"), 1),  # data named by their own folder
        ("7scenes/chess/seq-01", ("7scenes/fire", "7scenes/chess"), 1),  # of all its sequences
        ("chess", ("fire/seq-02", "chess/seq-01"), 1),  # of one sequence in a world that they share
        ("b/x", ("a/x", "b/x"), 1),
        ("x", ("a/x", "b/x"), None),
        ("rooms/room-2", ("room-0", "room-1"), None),
        ("rooms/room-10", ("room-1", "room-2"), None),
    ],
)
def test_a_world_is_the_scene_of_its_name(world, names, place):
    frames = [SceneFrame(name=name, center=(0.0, 0.0, 0.0), scale=1.0) for name in names]
    assert place_named(world, frames) == place


@pytest.mark.parametrize("size", [(60, 80), (77, 100), (90, 100), (112, 154)])
def test_at_most_5000_pixels_of_a_view_take_part(monkeypatch, size):
    counts = []

    def pose_from_points(points, pixels, *arguments, **options):
        counts.append(len(points))
        return np.eye(4)

    monkeypatch.setattr(scene_pass, "pose_from_points", pose_from_points)
    scene_pass.poses_by_pnp(torch.ones(1, *size, 3), torch.eye(3)[None])
    (count,) = counts
    assert min(5000, size[0] * size[1]) / 2 < count <= 5000


def test_a_view_without_a_single_point_has_no_pose_and_stops_no_other(truth):
    points = apply_similarity(truth.world_poses[:, :3], truth.points.double()).float()
    points[1] = math.inf
    poses = scene_pass.poses_by_pnp(points, truth.intrinsics)
    assert poses[1].isnan().all()
    rest = [0, 2, 3]
    torch.testing.assert_close(poses[rest], truth.world_poses[rest], atol=5e-3, rtol=0)


def far_off(truth) -> torch.Tensor:
    """Coordinates in the world that are all off by 20 cm, smoothly."""
    points = apply_similarity(truth.world_poses[:, :3], truth.points.double()).float()
    coarse = 0.2 * torch.randn(4, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    return points + torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear").movedim(1, -1)


def test_coordinates_that_are_far_off_have_a_wider_bound_here_and_in_infer(truth, monkeypatch):
    points = far_off(truth)
    mine = scene_pass.poses_by_pnp(points, truth.intrinsics)
    scene = render_scene(0, 4, SIZE)
    pixels = [(255 * one).round().byte().movedim(0, -1).numpy() for one in scene.images]
    views = views_of_images(pixels, [None] * 4, ImageFit(size=SIZE))
    ones = np.ones(SIZE, np.float32)
    maps = [ViewMaps(PointMap(one.numpy(), ones), None) for one in points]
    cameras = CameraOptions(intrinsics=truth.intrinsics[0].double().numpy())
    solved = solve_cameras(views, maps, poses="pnp", cameras=cameras, in_scene=True)
    theirs = np.stack([view.camera.world_from_cam for view in solved.views])
    narrow = AgreementBound(SCENE_BOUND.pixels)
    monkeypatch.setattr(scene_pass, "SCENE_BOUND", narrow)
    worse = scene_pass.poses_by_pnp(points, truth.intrinsics)

    def off(poses) -> float:
        apart = torch.as_tensor(poses)[:, :3, 3] - truth.world_poses[:, :3, 3]
        return float(apart.norm(dim=-1).mean())

    assert off(mine) < 0.8 * off(worse)
    assert off(theirs) < 0.8 * off(worse)
