"""`eval` refines poses as `infer` does."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from distill3r_core import reconstruct
from distill3r_core.evaluation.predictions import predict_with_student
from distill3r_core.evaluation.view_truth import NamedView, fit_views, truth_of
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.pose_errors import pair_errors
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import apply_similarity, scale_of
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student
from distill3r_core.reconstruction.refinement import views as refinement
from distill3r_core.reconstruction.refinement.motions import chain, exponential, inverse
from distill3r_core.runs.student_file import StudentFile
from distill3r_core.scenes.render import render_scene
from distill3r_core.stages.evaluate.refined_poses import RefinedPoses
from distill3r_core.types import PointMaps, RawMaps, View

VIEWS = 13  # more than of which every pair is tried: the encoder's features count
FIT = ImageFit(size=(28, 42))  # squashes the images


def seen_room():
    """Views of a room with depth and K, the first with a mask."""
    room = render_scene(3, VIEWS, (56, 70), degrees=40.0)
    found = []
    for index in range(VIEWS):
        pixels = (255 * room.images[index].movedim(0, -1)).round().byte().numpy()
        view = View(
            image=pixels,
            intrinsics=room.intrinsics[index].double().numpy(),
            depth=room.depth[index].numpy(),
            world_from_cam=room.world_from_cam[index].double().numpy(),
            unit="m",
        )
        found.append(view)
    mask = np.ones((56, 70), bool)
    mask[:, :20] = False
    found[0] = replace(found[0], mask=mask)
    return found


def student_of(truth, monkeypatch):
    """A student whose local maps are the room's and whose poses are off."""
    torch.manual_seed(0)
    student = build_student("tiny").eval()
    generator = torch.Generator().manual_seed(1)
    poses = truth.poses[:, :3]
    poses = chain(inverse(poses[:1]).expand_as(poses), poses)
    off = 0.05 * torch.randn(VIEWS, 6, dtype=torch.float64, generator=generator)
    poses = chain(poses, exponential(off))
    world = torch.stack(
        [
            apply_similarity(pose, one.double())
            for pose, one in zip(poses, truth.points, strict=True)
        ]
    )
    confidence = 1 + torch.rand(2, *truth.mask.shape, generator=generator)
    maps = (world.float(), truth.points.float(), *confidence)

    def forward(images, **_):
        if isinstance(images, torch.Tensor):
            return PointMaps(*(one[None] for one in maps))
        return [PointMaps(*(one[index][None] for one in maps)) for index in range(VIEWS)]

    monkeypatch.setattr(student, "forward", forward)
    return student


def test_eval_refines_the_same_student_and_images_to_the_poses_of_infer(monkeypatch):
    views = seen_room()
    frames = [NamedView(f"{k}", view, f"{k}") for k, view in enumerate(views)]
    # The maps of the student are known at all pixels, whatever the mask.
    unmasked = [replace(one, view=replace(one.view, mask=None)) for one in frames]
    known, _ = truth_of("room", "room", unmasked, partial(fit_views, fit=FIT))
    truth, failed = truth_of("room", "room", frames, partial(fit_views, fit=FIT))
    assert known is not None and truth is not None and not failed
    student = student_of(known, monkeypatch)
    given, whole = [], refinement.refine_poses

    def refine_poses(images, points, similarities, **options):
        given.append({"images": images, "points": points, "given": similarities, **options})
        return whole(images, points, similarities, **options)

    monkeypatch.setattr(refinement, "refine_poses", refine_poses)
    scene = reconstruct(
        [view.image for view in views],
        student,
        masks=[view.mask for view in views],
        fit=FIT,
        refine=True,
    )
    file = StudentFile(
        Path("none"), "toy", student, torch.device("cpu"), fit=FIT, precision="float32"
    )
    refined = RefinedPoses()
    maps = refined.refine(truth, predict_with_student(file)(truth), student)

    infer, evaluation = given
    assert infer["features"] is not None and not infer["fixed_focal"]
    for name in ("images", "points", "given", "valid_mask", "intrinsics", "features"):
        torch.testing.assert_close(infer[name], evaluation[name], rtol=1e-6, atol=1e-6)
    assert not infer["valid_mask"][0, :, :11].any()  # the mask of the image
    assert 0.85 < float(infer["valid_mask"][1:].float().mean()) < 0.95  # confident pixels
    assert float(infer["intrinsics"][0, 0, 0] / infer["intrinsics"][0, 1, 1]) > 1.15  # squashed

    assert refined.aligned == sum(scene.refinement.aligned) > VIEWS // 2
    poses = np.stack([camera.world_from_cam for camera in scene.cameras])
    assert maps.global_from_local is not None
    placed = rigid_of(maps.global_from_local)
    torch.testing.assert_close(placed, torch.from_numpy(poses), rtol=0, atol=1e-6)


@pytest.mark.parametrize("lost", [0, 3], ids=["the first view", "another view"])
@pytest.mark.parametrize("known", [True, False], ids=["own pose", "no pose"])
def test_a_view_without_a_camera_keeps_its_own_pose_and_the_others_are_refined(lost, known):
    frames = [NamedView(f"{k}", view, f"{k}") for k, view in enumerate(seen_room()[1:7])]
    truth, _ = truth_of("room", "room", frames, partial(fit_views, fit=FIT))
    assert truth is not None and truth.poses is not None
    count, others = len(frames), [k for k in range(len(frames)) if k != lost]
    generator = torch.Generator().manual_seed(1)
    off = 0.05 * torch.randn(count, 6, dtype=torch.float64, generator=generator)
    given = chain(truth.poses[:, :3], exponential(off))
    given[:, :, :3] *= 2  # local maps half as large as their world
    points = [one / 2 for one in truth.points]
    confidence = list(1 + torch.rand(truth.mask.shape, generator=generator))
    if known:  # all its pixels are masked
        hidden = replace(truth.sources[lost].view, mask=np.zeros((56, 70), bool))
        sources = list(truth.sources)
        sources[lost] = replace(sources[lost], view=hidden)
        truth = replace(truth, sources=tuple(sources))
    else:
        points[lost], given[lost] = torch.full_like(points[lost], torch.nan), torch.nan
    maps = RawMaps(points, confidence, confidence, global_from_local=given.float())

    refined = RefinedPoses()
    found = refined.refine(truth, maps, None).global_from_local
    assert found is not None
    assert (refined.views, refined.without_camera) == (count, 1)
    assert refined.aligned == len(others)
    found = found.double()
    errors = [
        pair_errors(rigid_of(one[others]), truth.poses[others]).rotation.median()
        for one in (given, found)
    ]
    assert errors[0] > 4 and errors[1] < 0.5
    if not known:
        assert found[lost].isnan().all()
        return
    # Refined poses are as a whole where the given ones are, and so is the view that was not.
    torch.testing.assert_close(scale_of(found[lost]), scale_of(given[lost]))
    into_frame = rigid_of(found[lost]) @ invert_rigid(rigid_of(given[lost])[None])[0]
    kept = into_frame @ rigid_of(given[others])
    turn = (rigid_of(found[others])[:, :3, :3] @ kept[:, :3, :3].mT).sum(0)
    u, _, v = torch.linalg.svd(turn)
    torch.testing.assert_close(u @ v, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)
    centers = (rigid_of(found[others]) - kept)[:, :3, 3].mean(0)
    torch.testing.assert_close(centers, torch.zeros_like(centers), rtol=0, atol=1e-5)


def test_a_single_camera_leaves_the_poses_as_they_are_and_says_so():
    frames = [NamedView(f"{k}", view, f"{k}") for k, view in enumerate(seen_room()[1:3])]
    truth, _ = truth_of("room", "room", frames, partial(fit_views, fit=FIT))
    assert truth is not None and truth.poses is not None
    points = [truth.points[0], torch.full_like(truth.points[1], torch.nan)]
    confidence = list(torch.ones(truth.mask.shape))
    maps = RawMaps(points, confidence, confidence, global_from_local=truth.poses[:, :3].float())
    refined = RefinedPoses()
    assert refined.refine(truth, maps, None) is maps
    assert (refined.views, refined.without_camera, refined.aligned) == (2, 1, 0)
