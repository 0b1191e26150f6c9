"""Fused surfaces: the scale of a view's map in the world of its cameras counts."""

from dataclasses import replace

import pytest
import torch
from posed_rooms import SIZE, room_depth

from distill3r_core.evaluation import fused_metrics
from distill3r_core.evaluation.clouds.tsdf import VolumeRules
from distill3r_core.evaluation.fused_metrics import fused_score
from distill3r_core.evaluation.metric_record import Comparison
from distill3r_core.evaluation.predictions import maps_of
from distill3r_core.evaluation.truth import TrueSurface, Truth
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.scenes.paths import pinhole
from distill3r_core.types import ImagePlacement, PreparedView

VIEWS = 4


@pytest.fixture
def truth():
    depth, poses = room_depth(0, VIEWS, 40.0)
    intrinsics = pinhole(SIZE).float().expand(VIEWS, 3, 3)
    points = unproject(depth.float(), intrinsics)
    world = apply_similarity(poses[:, :3].double(), points.double()).reshape(-1, 3)
    whole = ImagePlacement((0.0, 0.0, float(SIZE[1]), float(SIZE[0])), SIZE)
    return Truth(
        name="s",
        world="s",
        view_names=tuple("abcd"),
        views=(PreparedView(torch.zeros(3, *SIZE), whole),) * VIEWS,
        points=points,
        mask=torch.ones(VIEWS, *SIZE, dtype=torch.bool),
        intrinsics=intrinsics,
        poses=poses.double(),
        unit="m",
        contents=(),
        surface=TrueSurface(world, VolumeRules(0.1, 0.4, 1e6), voxel=0.1, threshold=0.1),
    )


@pytest.mark.parametrize("cameras", ["true", "predicted"])
@pytest.mark.parametrize("rules", ["da3", "spatialbench"])
def test_maps_of_any_scale_fuse_to_the_same_surface_if_their_views_are_placed_alike(
    truth, monkeypatch, rules, cameras
):
    monkeypatch.setattr(fused_metrics, "SAMPLES", 20_000)
    maps = maps_of(truth.points, truth, poses=truth.poses)
    own = torch.tensor([1.0, 3.0, 0.4, 0.1])
    similarities = maps.global_from_local.clone()
    similarities[:, :, :3] *= own[:, None, None]
    scaled = replace(
        maps,
        points_local=[one / scale for one, scale in zip(truth.points, own, strict=True)],
        global_from_local=similarities,
    )
    expected, found = (
        fused_score(Comparison(truth, one, ()), rules, cameras) for one in (maps, scaled)
    )
    assert expected is not None and found is not None and expected.f_score > 0.8
    assert found.f_score == pytest.approx(expected.f_score, abs=0.02)
    assert found.overall == pytest.approx(expected.overall, rel=0.05)
