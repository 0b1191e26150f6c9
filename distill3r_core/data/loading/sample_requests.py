"""What a draw decides: which views are shown, in which order, and how they are changed."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.data.loading import augment
from distill3r_core.data.loading.batches import Draw, rng_of
from distill3r_core.data.loading.nearby_views import draw_motions
from distill3r_core.nn.view_codes import random_view_numbers

_SEEDS = 2**63


@dataclass(frozen=True)
class DrawSettings:
    """How samples are drawn.

    Args:
        augment_views: A random subset in random order, with the first of it as the anchor.
        span: Then, how many successive views the subset is from; None: from all.
        random_view_numbers: Views but the anchor get random numbers, as in Fast3R's training.
    """

    views: int | None = None  # how many views a draw shows; None: all
    augment_views: bool = True
    span: int | None = None
    mirror: bool = False  # every second draw is mirrored, all its views alike
    colors: bool = False  # colors are changed at random, each view on its own
    zoom: float = 1.0  # each view shows a random part, see `augment.draw_crops`
    aspect: float = 1.0
    turn: float = 0.0  # each view is seen by a camera nearby, see `draw_motions`
    shift: float = 0.0
    random_view_numbers: bool = True
    seed: int = 0  # seed of all these choices


@dataclass(frozen=True)
class SampleRequest:
    """A sample as it is to be shown.

    Args:
        reanchored: The first of the views is to be the anchor; otherwise the cached one stays.
        scene_from_stored: `[sR | t]` that carries the frame of the cached anchor into that of the
            scene, which the global points are then in; None: they stay in the anchor's.
        colors: Factors for the colors, see `augment.draw_colors`; None: as they are.
        crops: Parts of the views that are shown, see `augment.draw_crops`; None: all of them.
        motions: Cameras that see them, see `draw_motions`; None: their own.
        view_numbers: Among those the student tells apart; None: in order.
    """

    name: str
    views: tuple[int, ...]
    number: int = 0
    reanchored: bool = False
    scene_from_stored: Float[np.ndarray, "3 4"] | None = None
    mirrored: bool = False
    colors: Float[np.ndarray, "N 5"] | None = None
    crops: Float[np.ndarray, "N 4"] | None = None
    motions: Float[np.ndarray, "N 3 4"] | None = None
    view_numbers: tuple[int, ...] | None = None

    @property
    def draw(self) -> Draw:
        """Where it comes from."""
        return Draw(self.name, self.number)


def request_of(
    draw: Draw,
    *,
    available: int,
    settings: DrawSettings,
    scene_from_stored: Float[np.ndarray, "3 4"] | None = None,
) -> SampleRequest:
    """All that is random about a draw, decided by the seed and its number alone.

    Args:
        available: How many views the sample has.
        scene_from_stored: See `SampleRequest`.
    """
    rng = rng_of(draw, seed=settings.seed)
    views = augment.choose_views(
        available,
        settings.views,
        rng=rng if settings.augment_views else None,
        span=settings.span,
    )
    mirrored = settings.mirror and bool(rng.random() < 0.5)
    colors = augment.draw_colors(len(views), rng) if settings.colors else None
    crops = None
    if max(settings.zoom, settings.aspect) > 1:
        crops = augment.draw_crops(len(views), rng, zoom=settings.zoom, aspect=settings.aspect)
    motions = None
    if max(settings.turn, settings.shift) > 0:
        motions = draw_motions(len(views), rng, turn=settings.turn, shift=settings.shift)
    numbers = None
    if settings.random_view_numbers:
        generator = torch.Generator().manual_seed(int(rng.integers(_SEEDS)))
        numbers = tuple(random_view_numbers(1, len(views), generator)[0].tolist())
    return SampleRequest(
        name=draw.name,
        views=views,
        number=draw.number,
        reanchored=scene_from_stored is None and views[0] != 0,
        scene_from_stored=scene_from_stored,
        mirrored=mirrored,
        colors=colors,
        crops=crops,
        motions=motions,
        view_numbers=numbers,
    )
