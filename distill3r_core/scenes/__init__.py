"""Procedural scenes with exact depth, poses and intrinsics, drawn from a seed: rooms, the Moon."""

from distill3r_core.scenes.lunar_render import (
    VIEW_KINDS,
    ViewKind,
    flight,
    lunar_camera,
    render_lunar,
    render_lunar_view,
)
from distill3r_core.scenes.lunar_terrain import LunarTerrain, build_terrain
from distill3r_core.scenes.paths import arc, look_at, pinhole
from distill3r_core.scenes.render import RenderedScene, render_depth, render_scene, render_view
from distill3r_core.scenes.scene import ProceduralScene, build_scene

__all__ = [
    "VIEW_KINDS",
    "LunarTerrain",
    "ProceduralScene",
    "RenderedScene",
    "ViewKind",
    "arc",
    "build_scene",
    "build_terrain",
    "flight",
    "look_at",
    "lunar_camera",
    "pinhole",
    "render_depth",
    "render_lunar",
    "render_lunar_view",
    "render_scene",
    "render_view",
]
