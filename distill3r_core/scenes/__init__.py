"""Procedural scenes: rooms with exact depth, poses and intrinsics, drawn from a seed."""

from distill3r_core.scenes.paths import arc, look_at, pinhole
from distill3r_core.scenes.render import RenderedScene, render_depth, render_scene, render_view
from distill3r_core.scenes.scene import ProceduralScene, build_scene

__all__ = [
    "ProceduralScene",
    "RenderedScene",
    "arc",
    "build_scene",
    "look_at",
    "pinhole",
    "render_depth",
    "render_scene",
    "render_view",
]
