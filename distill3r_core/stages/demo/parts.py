"""Render the rooms of the demo and draw predictions for held-out views."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from distill3r_core import results
from distill3r_core.cache.store import TeacherCache
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.models.checkpoint import load_student
from distill3r_core.profiling import one_thread, pick_device
from distill3r_core.report import Progress
from distill3r_core.scenes import (
    arc,
    build_scene,
    build_terrain,
    flight,
    lunar_camera,
    pinhole,
    render_lunar_view,
    render_view,
)
from distill3r_core.stages.demo.demo_steps import FLIGHTS, DemoSettings, scene_name

VIEW_SIZE = (140, 196)  # rows and columns of a rendered view: twice the size of the student's
SEEDS = 1000  # distance between the seeds of two demos, so that they share no room
PREVIEW_ROOMS, PREVIEW_VIEWS = 2, 2  # rooms, and held-out views of each, in the preview


def render_rooms(settings: DemoSettings, *, overwrite: bool, progress: Progress) -> None:
    """Write the scenes as RGB-D, unless they exist.

    Raises:
        ConflictError: The folder holds scenes of another demo.
    """
    identity: dict[str, Any] = {
        "seed": settings.seed,
        "rooms": settings.rooms,
        "views": settings.views,
        "size": list(VIEW_SIZE),
    }
    if settings.world != "rooms":
        identity["world"] = settings.world
    if settings.flights != FLIGHTS:
        identity["flights"] = list(settings.flights)
    place = results.claim(
        settings.scenes, chosen=settings.scenes, identity=identity, overwrite=overwrite
    )
    if place.finished:
        return
    progress.begin("render", total=settings.rooms * settings.views, unit="views")
    # The operations of the ray caster are too small for several threads.
    with one_thread():
        for number in range(settings.rooms):
            _render_room(settings, number, progress)
    results.write_record(settings.scenes, identity=identity)


def _render_room(settings: DemoSettings, number: int, progress: Progress) -> None:
    seed = SEEDS * settings.seed + number
    if settings.world == "lunar":
        ground, intrinsics = build_terrain(seed), lunar_camera(VIEW_SIZE)
        kind = settings.flights[number % len(settings.flights)]
        poses = flight(ground, settings.views, kind=kind, seed=seed)
        render = partial(render_lunar_view, ground)
    else:
        scene, intrinsics = build_scene(seed), pinhole(VIEW_SIZE)
        poses = arc(scene, settings.views, seed=seed)
        render = partial(render_view, scene)
    images, depths = [], []
    for pose in poses:
        image, depth = render(pose, intrinsics, VIEW_SIZE)
        images.append(image)
        depths.append(depth)
        progress.advance()
    folder = settings.scenes / scene_name(settings, number)
    for path in folder.glob("*/*"):  # further frames of a longer demo: the manifest would read them
        if path.stem.isdigit() and int(path.stem) >= settings.views:
            path.unlink()
    write_rgbd_scene(folder, torch.stack(images), torch.stack(depths), poses, intrinsics)


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
        for part in range(PREVIEW_VIEWS):  # centers of equal parts
            view = int((2 * part + 1) * len(truth) / (2 * PREVIEW_VIEWS))
            predicted, true, valid = depth[view], truth[view], mask[view]
            # The student's scale is arbitrary: match the median depth.
            unit = true[valid].median() / predicted[valid].median()
            span = limits(true.numpy(), valid.numpy())
            rows.append(
                [
                    sample.images[view].movedim(0, -1).numpy(),
                    colorize((unit * predicted).numpy(), table="depth", span=span),
                    colorize(true.numpy(), table="depth", span=span, mask=valid.numpy()),
                    colorize(confidence[view].numpy(), table="confidence"),
                ]
            )
    headings = ("photo (held out)", "predicted depth", "true depth", "confidence")
    write_image(path, compose(rows, headings=headings))
    return path
