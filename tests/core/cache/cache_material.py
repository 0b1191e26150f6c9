"""Small targets, caches and manifests that the tests of the cache share."""

from pathlib import Path

import numpy as np
import torch

from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.data.manifest import ManifestRow, write_manifest
from distill3r_core.data.manifest_views import content_hash, image_hash
from distill3r_core.geometry.cameras import unproject
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.depth import as_stored, write_depth
from distill3r_core.types import TeacherTargets

SIZE = (28, 42)


def smooth_targets(
    *,
    views: int = 2,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
    depth: bool = False,
    independent: bool = False,
) -> TeacherTargets:
    """Targets as a teacher makes them: depth times ray, or noisier; a tenth of them invalid."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    camera = torch.tensor([[1.1 * width, 0, width / 2], [0, 1.2 * width, height / 2], [0, 0, 1]])
    intrinsics = camera.expand(views, 3, 3).contiguous()
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phase = torch.rand(views, 1, 1, generator=generator)
    z = 1.5 + torch.sin(u / width + phase) + 0.4 * torch.cos(v / height + phase)
    points = unproject(z, intrinsics)
    if not depth:
        points = points + 0.01 * torch.randn(points.shape, generator=generator)
    mask = torch.rand(views, height, width, generator=generator) > 0.1
    points = torch.where(mask[..., None], points, 0.0)
    turn = torch.linalg.qr(torch.randn(views, 3, 3, generator=generator)).Q
    similarity = torch.cat([1.3 * turn, torch.randn(views, 3, 1, generator=generator)], -1)
    confidence = torch.where(mask, 1 + torch.exp(z - 1), 1.0)
    own = None
    if independent:
        own = torch.where(mask[..., None], torch.randn(points.shape, generator=generator), 0.0)
    return TeacherTargets(
        points_local=points,
        confidence_local=confidence,
        confidence_global=torch.where(mask, confidence + 0.5, 1.0),
        valid_mask=mask,
        global_from_local=similarity,
        stored_points_global=own,
        intrinsics=intrinsics if depth else None,
    )


def pictures(*, views: int = 2, size: tuple[int, int] = SIZE, seed: int = 0) -> torch.Tensor:
    """Pictures of noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (views, 3, *size), generator=generator, dtype=torch.uint8)


def a_header(count: int = 3, **changes: object) -> CacheHeader:
    """The header of a cache of `count` samples named data/scene/000 on."""
    plan = tuple(
        PlannedSample(f"data/scene/{i:03d}", f"content-{i}", "val" if i % 3 == 2 else "train")
        for i in range(count)
    )
    values = {
        "teacher": "depth",
        "license": "free",
        "weights_hash": None,
        "size": SIZE,
        "fit": {"size": list(SIZE)},
        "threshold": None,
        "metric": True,
        "plan": plan,
    }
    return CacheHeader(**(values | changes))


def fill(folder: Path, header: CacheHeader, *, seed: int = 0, shard: int = 0, **kind: bool) -> None:
    """Write every planned sample of a header."""
    with CacheWriter(folder, header, shard=shard) as writer:
        encoder = writer.encoder()
        for number, planned in enumerate(header.plan):
            writer.put(
                encoder.encode(
                    planned.name,
                    planned.content,
                    pictures(seed=seed + number),
                    smooth_targets(seed=seed + number, **kind),
                    {"pictures": [f"p{number}-{view}" for view in range(2)]},
                )
            )


def rgbd_manifest(
    folder: Path, *, scenes: int = 2, samples: int = 2, views: int = 2, size: tuple[int, int] = SIZE
) -> Path:
    """A manifest of rendered-looking RGB-D frames; gives its path."""
    height, width = size
    rows = []
    for scene in range(scenes):
        rng = np.random.default_rng(scene)
        for frame in range(samples * views):
            v, u = np.mgrid[:height, :width] / width
            depth = (2 + np.sin(3 * u + frame) + 0.3 * np.cos(5 * v)).astype(np.float32)
            depth[rng.random(depth.shape) < 0.05] = 0
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            name = f"scene{scene}_{frame:03d}"
            write_image(folder / f"images/{name}.png", pixels)
            write_depth(folder / f"depth/{name}.png", depth, unit="m")
            camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], float)
            pose = np.eye(4)
            pose[0, 3] = 0.1 * frame
            content = content_hash(
                image_hash(pixels),
                depth=as_stored(depth, "m"),
                intrinsics=camera,
                world_from_cam=pose,
                unit="m",
            )
            rows.append(
                ManifestRow(
                    dataset="data",
                    split="train",
                    scene_id=f"scene{scene}",
                    sample_id=f"{frame:06d}",
                    image_path=f"images/{name}.png",
                    K=tuple(camera.ravel()),
                    H=height,
                    W=width,
                    K_source="calibrated",
                    depth_path=f"depth/{name}.png",
                    depth_format="png16mm",
                    pose=tuple(pose.ravel()),
                    unit="m",
                    picture=image_hash(pixels),
                    content=content,
                    windows=(frame // views,),
                )
            )
    write_manifest(folder / "manifest.csv", rows)
    return folder / "manifest.csv"


def records(path: Path) -> dict[str, bytes]:
    """The maps of every sample of a cache, by name."""
    cache = TeacherCache(path)
    found = {}
    for name in cache.names():
        shard, entry = cache.place(name)
        found[name] = b"".join(bytes(shard.maps(entry, view)) for view in range(entry.views))
    return found
