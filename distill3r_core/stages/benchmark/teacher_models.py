"""Teachers as `bench` times them: with their weights, from images to maps on the host."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.io.images.teacher_fit import teacher_placement
from distill3r_core.nn.counts import Part
from distill3r_core.teachers.official_files import find_weight_file
from distill3r_core.teachers.registry import TEACHERS, build_teacher
from distill3r_core.types import PreparedView, View

Forward = Callable[[Float[Tensor, "1 N 3 H W"]], Sequence[Tensor]]


def teacher_parts(
    name: str,
    weights: Path | None,
    views: int,
    size: tuple[int, int],
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Part, ...] | None:
    """The arithmetic of a prediction; None where it is unknown.

    Args:
        name: Name of the teacher.
        weights: Its folder or file of weights, whose network is counted; None: the published one.
        size: Rows and columns of the images, which the teacher brings to a size of its own.
        settings: The teacher's own settings.
    """
    record = TEACHERS[name]
    if record.cost is None:
        return None
    own = teacher_placement(size, record.fit).size
    network = _network_size(name, weights)
    return record.cost.flop(network, views, own, settings=record.read_settings(settings))


@lru_cache(maxsize=32)
def _network_size(name: str, weights: Path | None) -> Any:
    """Sizes of the network of a weight file."""
    record = TEACHERS[name]
    assert record.cost is not None
    if weights is None or record.weights is None:
        return record.cost.published
    file = find_weight_file(weights, record.weights.tensor_files)
    return record.cost.network_of(file, name=name)


def teacher_forward(
    name: str,
    weights: Path | None,
    device: torch.device,
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Forward:
    """Prediction with the copies from and to the host.

    Raises:
        WeightsError: The weights are missing or damaged.
    """
    predictor = build_teacher(name, weights, device=device, **settings)
    prepared: list[PreparedView] = []  # by the first forward, a warm-up

    def forward(images: Float[Tensor, "1 N 3 H W"]) -> Sequence[Tensor]:
        if not prepared:
            pixels = (255 * images[0]).byte().movedim(1, -1).cpu().numpy()
            views = (View(image, sample="bench", index=i) for i, image in enumerate(pixels))
            prepared.extend(predictor.prepare(view) for view in views)
        maps = predictor.predict(prepared)
        return [*maps.points_local, *maps.confidence_local, *maps.confidence_global]

    return forward
