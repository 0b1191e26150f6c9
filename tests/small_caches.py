"""Small teacher caches that a student can learn from: brightness tells depth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch

from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.store import CacheWriter
from distill3r_core.geometry.cameras import unproject
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.types import TeacherTargets

SIZE = (28, 42)


def made_sample(
    seed: int, *, views: int, size: tuple[int, int]
) -> tuple[torch.Tensor, TeacherTargets]:
    """Pictures whose brightness is their depth, and the exact targets of cameras on a line."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    coarse = torch.rand(views, 1, 3, 3, generator=generator)
    depth = 1 + 2 * torch.nn.functional.interpolate(coarse, size, mode="bilinear")[:, 0]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    intrinsics = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    pixels = torch.stack([columns + 0.5, rows + 0.5, torch.ones(height, width)], dim=-1)
    points = depth[..., None] * (pixels @ intrinsics.inverse().T)
    poses = torch.eye(3, 4).repeat(views, 1, 1)
    poses[:, 0, 3] = 0.1 * torch.arange(views)
    mask = torch.rand(views, height, width, generator=generator) > 0.1
    points = torch.where(mask[..., None], points.half().float(), 0.0)
    confidence = torch.where(mask, (1 + 1 / depth).half().float(), 1.0)
    shade = (255 * (depth - 1) / 2).round().to(torch.uint8)
    targets = TeacherTargets(
        points_local=points,
        confidence_local=confidence,
        confidence_global=confidence,
        valid_mask=mask,
        global_from_local=poses,
    )
    return shade[:, None].expand(-1, 3, -1, -1).contiguous(), targets


def depth_maps(number: int, targets: TeacherTargets) -> TeacherTargets:
    """The made-up targets as a teacher gives them that knows its cameras."""
    views, height, width = targets.valid_mask.shape
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    intrinsics = K.expand(views, 3, 3).clone()
    points = unproject(targets.points_local[..., 2], intrinsics)
    points = torch.where(targets.valid_mask[..., None], points, 0.0)
    return replace(targets, points_local=points, intrinsics=intrinsics)


def made_features(seed: int, layer: str, *, views: int, channels: int) -> torch.Tensor:
    """Features of 2 x 3 patches a view, different for every sample and layer."""
    generator = torch.Generator().manual_seed(1000 * seed + len(layer))
    return torch.randn(views, 2, 3, channels, generator=generator)


def write_cache(
    folder: Path,
    *,
    sizes: Sequence[tuple[int, int]] = (SIZE,) * 4,
    held_out: int = 2,
    views: int = 4,
    missing: Sequence[str] = (),
    features: Mapping[str, int] = MappingProxyType({}),
    teacher: str = "made",
    metric: bool = True,
    change: Callable[[int, TeacherTargets], TeacherTargets] = lambda number, targets: targets,
) -> Path:
    """Write a cache of made-up samples, one per size, and some held-out ones.

    Args:
        metric: Whether the header says that points are in meters.
        change: Makes another teacher's targets of the exact ones.
    """
    plan = [
        PlannedSample(f"made/{number:02d}/000", f"content-{number}", "train")
        for number in range(len(sizes))
    ] + [
        PlannedSample(f"made/held-{number:02d}/000", f"held-{number}", "val")
        for number in range(held_out)
    ]
    header = CacheHeader(
        teacher=teacher,
        license="none",
        weights_hash=None,
        size=sizes[0],
        fit=ImageFit(size=sizes[0]).as_plain(),
        threshold=None,
        metric=metric,
        plan=tuple(plan),
        features=dict(features),
    )
    with CacheWriter(folder, header) as writer:
        encoder = writer.encoder()
        every = [*sizes, *[sizes[0]] * held_out]
        for number, (planned, size) in enumerate(zip(plan, every, strict=True)):
            if planned.name in missing:
                continue
            images, targets = made_sample(number, views=views, size=size)
            targets = change(number, targets)
            detail = {"pictures": [f"picture-{number}-{view}" for view in range(views)]}
            streams = {
                layer: made_features(number, layer, views=views, channels=channels)
                for layer, channels in features.items()
            }
            sample = encoder.encode(planned.name, planned.content, images, targets, detail, streams)
            writer.put(sample)
    return folder
