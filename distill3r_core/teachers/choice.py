"""Which teacher `auto` stands for."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable


@runtime_checkable
class FrameFacts(Protocol):
    """What a manifest row says of a frame, as far as teachers care."""

    @property
    def depth_path(self) -> object: ...
    @property
    def pose(self) -> object: ...
    @property
    def camera(self) -> str: ...
    @property
    def K_source(self) -> str: ...  # noqa: N802 - the manifest's column


def choose_teacher(frames: Iterable[FrameFacts]) -> str:
    """`depth` where every frame has depth, a pose and a pinhole's calibrated K, else `fast3r`."""
    frames = list(frames)
    exact = frames and all(
        frame.depth_path
        and frame.pose is not None
        and frame.K_source == "calibrated"
        and frame.camera == "pinhole"
        for frame in frames
    )
    return "depth" if exact else "fast3r"
