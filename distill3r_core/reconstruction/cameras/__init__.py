"""Cameras of views: intrinsics, poses, and the size of the whole."""
