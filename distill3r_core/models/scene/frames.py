"""Between the network's frame and those of the scenes that a student has learned.

A scene is centered and scaled to a root mean square radius of 1; several scenes lie beside each
other along the first axis, so that a view's coordinates tell in which of them it is.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill3r_core.models.scene.spec import SceneFrame

SPACING = 8.0  # network units between the centers of neighboring scenes


def network_from_scene(frames: Sequence[SceneFrame], place: int) -> Float[Tensor, "3 4"]:
    """The similarity that carries a scene's points into the network's frame, in float64.

    Args:
        place: Which of the scenes.
    """
    frame = frames[place]
    center = torch.tensor(frame.center, dtype=torch.float64)
    offset = torch.tensor([SPACING * place, 0.0, 0.0], dtype=torch.float64)
    linear = torch.eye(3, dtype=torch.float64) / frame.scale
    return torch.cat([linear, (offset - center / frame.scale)[:, None]], dim=1)


def scene_of_views(
    points: Float[Tensor, "*axes H W 3"], frames: Sequence[SceneFrame]
) -> Int[Tensor, "*axes"]:
    """In which of the scenes most points of each view lie."""
    middle = points[..., 0].flatten(-2).nanmedian(-1).values
    places = torch.nan_to_num(middle / SPACING, nan=0.0).round()
    return places.clamp(0, len(frames) - 1).long()


def place_named(world: str, frames: Sequence[SceneFrame]) -> int | None:
    """Which of the scenes a world of a data set is, by its name; None: none, or several fit.

    Args:
        world: `<dataset>/<scene>`, or the scene alone, as a folder of data names it.
    """
    whole = tuple(world.split("/"))
    names = [tuple(frame.name.strip("/").split("/")) for frame in frames]
    # A scene was named with or without its data set, and stands for all sequences below it.
    for fits in (
        [whole[: len(name)] == name for name in names],
        [whole[1:][: len(name)] == name for name in names],
        [name[1:] != () and whole[: len(name) - 1] == name[1:] for name in names],
        [whole in (name[: len(whole)], name[1:][: len(whole)]) for name in names],
    ):
        if any(fits):
            return fits.index(True) if sum(fits) == 1 else None
    return None


def place_points(
    points: Float[Tensor, "*axes H W 3"], frames: Sequence[SceneFrame]
) -> Float[Tensor, "*axes H W 3"]:
    """Points of the network's frame in the frames of their views' scenes, in the type given."""
    places = scene_of_views(points, frames)
    facts = [(*frame.center, frame.scale, SPACING * place) for place, frame in enumerate(frames)]
    chosen = points.new_tensor(facts)[places][..., None, None, :]
    center, scale, offset = chosen[..., :3], chosen[..., 3:4], chosen[..., 4:]
    shift = torch.cat([offset, torch.zeros_like(offset), torch.zeros_like(offset)], dim=-1)
    return (points - shift) * scale + center
