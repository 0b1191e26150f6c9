"""A stored sample at the student's size."""

import torch

from distill3r_core.data.dataset import resize_sample
from distill3r_core.geometry.cameras import project, unproject
from distill3r_core.types import TeacherTargets


def test_where_k_is_known_points_lie_on_the_rays_of_the_new_pixels() -> None:
    intrinsics = torch.tensor([[[20.0, 0, 10.3], [0, 21.0, 8.1], [0, 0, 1]]])
    points = unproject(torch.full((1, 16, 20), 2.0), intrinsics)
    valid = torch.ones(1, 16, 20, dtype=torch.bool)
    valid[0, :4] = False
    ones = torch.ones(1, 16, 20)
    targets = TeacherTargets(
        points_local=points,
        confidence_local=ones,
        confidence_global=ones,
        valid_mask=valid,
        global_from_local=torch.eye(3, 4)[None],
        intrinsics=intrinsics,
    )
    images = torch.zeros(1, 3, 16, 20, dtype=torch.uint8)
    _, half = resize_sample(images, targets, (8, 10))
    assert half.intrinsics is not None
    seen = project(half.points_local[0, 2:], half.intrinsics[0])
    rows, columns = torch.meshgrid(torch.arange(2, 8), torch.arange(10), indexing="ij")
    torch.testing.assert_close(seen, torch.stack([columns + 0.5, rows + 0.5], dim=-1))
    assert not half.points_local[0, :2].any()
