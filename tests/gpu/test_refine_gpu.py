"""The refinement of poses on a GPU: the same poses as on a CPU."""

import pytest
import torch

from distill3r_core.geometry.cameras import unproject
from distill3r_core.reconstruction.refinement.motions import chain, exponential, inverse
from distill3r_core.reconstruction.refinement.refine import refine_poses
from distill3r_core.scenes.render import render_scene

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

VIEWS = 5


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch):
    """By default cuDNN rounds the inputs of float32 convolutions to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_poses_are_refined_as_on_a_cpu():
    room = render_scene(3, VIEWS, (112, 154), degrees=30.0)
    points = unproject(room.depth, room.intrinsics)
    poses = room.world_from_cam.double()[:, :3]
    poses = chain(inverse(poses[:1]).expand_as(poses), poses)
    off = torch.randn(VIEWS, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start = chain(poses, exponential(0.05 * off))
    here = refine_poses(room.images, points, start)
    there = refine_poses(room.images.cuda(), points.cuda(), start.cuda())
    assert here.aligned.all() and there.world_from_local.is_cuda
    assert torch.equal(here.accepted, there.accepted.cpu())
    torch.testing.assert_close(
        there.world_from_local.cpu(), here.world_from_local, rtol=0, atol=1e-3
    )
    assert there.focal_factor == pytest.approx(here.focal_factor, abs=1e-3)
    torch.testing.assert_close(there.residual.cpu(), here.residual, rtol=0, atol=1e-3)
