"""Procedural scenes and a ray caster: exact depth, poses and intrinsics without data."""
