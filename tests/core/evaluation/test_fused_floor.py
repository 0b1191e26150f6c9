"""What the fused F-score leaves where the truth itself is fused, against the room's own surface."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement

from distill3r_core.evaluation import fused_metrics
from distill3r_core.evaluation.clouds import surface_files
from distill3r_core.geometry.cameras import rays, unproject
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes.paths import arc, pinhole
from distill3r_core.scenes.render import cast
from distill3r_core.scenes.scene import build_scene
from distill3r_core.stages.evaluate import EvalSettings, evaluate

SIZE = (392, 518)  # the grid of both protocols
SAMPLES = 400_000  # of a surface; they take a million, on a whole room
VOXEL = 100 * 4 / 512  # centimeters, of both
VIEWS = 3


@pytest.fixture(scope="module")
def room():
    """Depth, poses and K of a narrow look at a room, and the triangles that it shows."""
    scene, K = build_scene(0), pinhole(SIZE, degrees=24.0)
    poses = arc(scene, VIEWS, seed=0, degrees=12.0)
    seen = []
    for pose in poses:
        directions = rays(K, SIZE).flatten(0, 1) @ pose[:3, :3].mT
        seen.append(cast(scene, pose[:3, 3].expand_as(directions), directions))
    depth, body = (torch.stack(maps).reshape(VIEWS, *SIZE) for maps in zip(*seen, strict=True))
    points = unproject(depth, K.expand(VIEWS, 3, 3))
    world = apply_similarity(poses[:, :3].double(), points.double()).numpy()
    number = np.arange(depth.numel()).reshape(depth.shape)
    corners = [np.s_[:, :-1, :-1], np.s_[:, 1:, :-1], np.s_[:, 1:, 1:], np.s_[:, :-1, 1:]]
    around = np.stack([body.numpy()[corner] for corner in corners])
    whole = np.ptp(around, axis=0) == 0  # all four pixels see one body
    a, b, c, d = (number[corner][whole] for corner in corners)
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])
    return depth, poses, K, world.reshape(-1, 3), faces


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    for module in (fused_metrics, surface_files):
        monkeypatch.setattr(module, "SAMPLES", SAMPLES)


def write_ply(path, points, faces=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    vertices = np.ascontiguousarray(points, "<f4").view([(name, "<f4") for name in "xyz"])[:, 0]
    elements = [PlyElement.describe(vertices, "vertex")]
    if faces is not None:
        rows = np.empty(len(faces), dtype=[("vertex_indices", "i4", (3,))])
        rows["vertex_indices"] = faces
        elements.append(PlyElement.describe(rows, "face"))
    PlyData(elements).write(str(path))


def images(views):
    ramp = torch.linspace(0, 0.5, SIZE[1]).expand(3, *SIZE)
    return torch.stack([ramp + 0.1 * view for view in range(views)])


def metrics_of(root, protocol, output):
    settings = EvalSettings(
        data=root,
        protocol=protocol,
        predict="truth",
        device="cpu",
        output=output,
    )
    report = evaluate(settings)
    assert report.failed == []
    return report.result["metrics"]


def assert_floor(figures, *, chamfer, f_score):
    for suffix in ("", "_true_poses"):
        assert figures[f"chamfer{suffix}"] < chamfer
        assert figures[f"fscore{suffix}"] > f_score


def test_the_truth_fused_by_da3_bench_is_the_mesh_of_the_room(room, tmp_path):
    depth, poses, K, points, faces = room
    root = tmp_path / "rooms"
    write_rgbd_scene(root / "chess" / "seq-01", images(VIEWS), depth, poses, K)
    write_ply(root / "meshes" / "chess.ply", points, faces)
    found = metrics_of(root, "da3-bench", tmp_path / "result")
    figures = {name.removeprefix("da3:"): value for name, value in found.items()}
    # Points are spread by area, and surfaces seen at less than about asin(voxel / truncation),
    # 11 degrees, have holes: a voxel behind them is beyond the truncation. Here the top of a box.
    assert_floor(figures, chamfer=VOXEL, f_score=0.98)


def test_the_truth_fused_by_spatialbench_is_the_cloud_of_the_room(room, tmp_path):
    depth, poses, K, points, _ = room
    root = tmp_path / "spatialbench"
    scene = root / "medium" / "7scenes" / "chess" / "05"
    for folder in ("images", "depths", "poses", "intrinsics"):
        (scene / folder).mkdir(parents=True)
    for view, image in enumerate(images(VIEWS)):
        pixels = (image.movedim(0, -1) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(scene / "images" / f"{view}.png")
        codes = np.rint(1000 * depth[view].numpy()).astype(np.uint16)
        Image.fromarray(codes).save(scene / "depths" / f"{view}.png")
        np.save(scene / "poses" / f"{view}.npy", poses[view].numpy())
    centered = K.numpy().copy()
    centered[:2, 2] -= 0.5  # there pixel centers are at 0
    np.save(scene / "intrinsics" / "intrinsic.npy", centered)
    meta = {"depth_format": "uint16_png_div1000", "intrinsic_mode": "shared"}
    (scene / "meta.json").write_text(json.dumps(meta))
    write_ply(root / "pointcloud" / "7scenes" / "chess" / "05" / "mesh.ply", points)
    found = metrics_of(root, "spatialbench-medium", tmp_path / "result")
    figures = {name.removeprefix("spatialbench:"): value for name, value in found.items()}
    assert_floor(figures, chamfer=VOXEL / 2, f_score=0.99)
