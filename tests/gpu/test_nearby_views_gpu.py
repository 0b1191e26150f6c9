"""What a camera nearby sees is the same on a GPU, and the GPU is not waited for."""

import numpy as np
import pytest
import torch

from distill3r_core.data.loading.nearby_views import draw_motions, see_from
from distill3r_core.geometry.cameras import unproject
from distill3r_core.scenes import render_scene
from distill3r_core.types import TeacherTargets

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SIZE = (56, 77)


def test_a_gpu_sees_what_the_cpu_sees_and_nothing_waits() -> None:
    scene = render_scene(2, 6, SIZE)
    depth, K = scene.depth.reshape(2, 3, *SIZE), scene.intrinsics.reshape(2, 3, 3, 3)
    mask = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0)) > 0.1
    given = {
        "points_local": torch.where(mask[..., None], unproject(depth, K), 0.0),
        "confidence_local": 1 + depth,
        "confidence_global": 2 + depth,
        "valid_mask": mask,
        "global_from_local": torch.eye(3, 4).repeat(2, 3, 1, 1),
        "intrinsics": K,
    }
    images = (255 * scene.images).round().to(torch.uint8).reshape(2, 3, 3, *SIZE)
    motions = draw_motions(6, np.random.default_rng(0), turn=15.0, shift=0.2)
    moved = torch.from_numpy(motions).reshape(2, 3, 3, 4)
    there = {name: value.cuda() for name, value in given.items()}
    inputs = images.cuda(), TeacherTargets(**there), moved.cuda()
    see_from(*inputs, anchored=True)  # the first call loads kernels
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        shown, found = see_from(*inputs, anchored=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    wanted, targets = see_from(images, TeacherTargets(**given), moved, anchored=True)
    same = found.valid_mask.cpu() & targets.valid_mask
    assert float((found.valid_mask.cpu() ^ targets.valid_mask).float().mean()) < 1e-3
    apart = (found.points_global.cpu() - targets.points_global).norm(dim=-1)[same]
    assert float((apart > 1e-3).float().mean()) < 1e-3  # a place at the border of two pixels
    assert float((shown.cpu().float() - wanted.float()).abs().mean()) < 0.1
