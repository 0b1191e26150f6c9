"""What the demo does that no other stage does: render rooms, and draw what was learnt."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill3r_core import results
from distill3r_core.cache.store import TeacherCache
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.models.checkpoint import load_student
from distill3r_core.profiling import one_thread, pick_device
from distill3r_core.report import Progress
from distill3r_core.scenes import arc, build_scene, pinhole, render_view
from distill3r_core.stages.demo.plan import DemoSettings, room_name

PICTURE = (140, 196)  # rows and columns of a rendered view: twice the student's
SEEDS = 1000  # a demo's rooms have neighbouring seeds: demos of neighbouring seeds share none
PREVIEW_ROOMS, PREVIEW_VIEWS = 2, 2  # held-out views that are drawn: of so many rooms, so many


def render_rooms(settings: DemoSettings, *, overwrite: bool, progress: Progress) -> None:
    """Write the rooms as RGB-D scenes, unless they are there; go on where that was interrupted.

    Raises:
        ConflictError: The folder holds rooms of another demo.
    """
    identity = {
        "seed": settings.seed,
        "rooms": settings.rooms,
        "views": settings.views,
        "size": list(PICTURE),
    }
    place = results.claim(
        settings.scenes, chosen=settings.scenes, identity=identity, overwrite=overwrite
    )
    if place.finished:
        return
    progress.begin("render", total=settings.rooms * settings.views, unit="views")
    # The ray caster's operations are too small to be shared: threads would wait for each other.
    with one_thread():
        for number in range(settings.rooms):
            _render_room(settings, number, progress)
    results.write_record(settings.scenes, identity=identity)


def _render_room(settings: DemoSettings, number: int, progress: Progress) -> None:
    seed = SEEDS * settings.seed + number
    scene, intrinsics = build_scene(seed), pinhole(PICTURE)
    poses = arc(scene, settings.views, seed=seed)
    images, depths = [], []
    for pose in poses:
        image, depth = render_view(scene, pose, intrinsics, PICTURE)
        images.append(image)
        depths.append(depth)
        progress.advance()
    folder = settings.scenes / room_name(number)
    _remove_frames(folder, after=settings.views)
    write_rgbd_scene(folder, torch.stack(images), torch.stack(depths), poses, intrinsics)


def _remove_frames(folder: Path, *, after: int) -> None:
    """Remove the frames of a longer demo that is overwritten: the manifest would take them."""
    for path in folder.glob("*/*"):
        if path.stem.isdigit() and int(path.stem) >= after:
            path.unlink()


def draw_views(settings: DemoSettings, path: Path) -> Path:
    """Draw held-out views: photo, predicted depth, true depth and confidence side by side."""
    device = pick_device(settings.device)
    student = load_student(settings.run, device=str(device)).eval()
    cache = TeacherCache(settings.cache)
    rows: list[list[Any]] = []
    for name in cache.names("val")[:PREVIEW_ROOMS]:
        sample = cache.read(name)
        with torch.inference_mode():
            images = sample.images[None].to(device) / 255
            local_map = student(images, head="local").local_map
        depth, confidence = local_map.points[0, ..., 2].cpu(), local_map.confidence[0].cpu()
        truth, mask = sample.targets.points_local[..., 2], sample.targets.valid_mask
        for view in _spread(len(truth), PREVIEW_VIEWS):
            picture = sample.images[view].movedim(0, -1).numpy()
            maps_of_view = (depth[view], truth[view], mask[view], confidence[view])
            rows.append([picture, *_panels(*maps_of_view)])
    headings = ("photo (held out)", "predicted depth", "true depth", "confidence")
    write_image(path, compose(rows, headings=headings))
    return path


def _panels(depth: Tensor, truth: Tensor, mask: Tensor, confidence: Tensor) -> list[Any]:
    # A student's unit is its own: the median brings it to the truth's.
    unit = truth[mask].median() / depth[mask].median()
    span = limits(truth.numpy(), mask.numpy())
    return [
        colorize((unit * depth).numpy(), table="depth", span=span),
        colorize(truth.numpy(), table="depth", span=span, mask=mask.numpy()),
        colorize(confidence.numpy(), table="confidence"),
    ]


def _spread(count: int, wanted: int) -> list[int]:
    """Middles of `wanted` equal parts of `count` things."""
    return [int((2 * part + 1) * count / (2 * wanted)) for part in range(wanted)]
