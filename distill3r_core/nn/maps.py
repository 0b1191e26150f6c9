"""Run a head over many views, a few at a time, into point maps and confidences."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill3r_core.nn.dpt import DPTHead
from distill3r_core.nn.kernels.fused import is_fused, maps_of
from distill3r_core.nn.outputs import confidence_from_raw, points_from_raw
from distill3r_core.nn.progress import ProgressCallback, no_progress
from distill3r_core.types import PointMap


def predict_maps(
    head: DPTHead,
    layers: Sequence[Float[Tensor, "n P _"]],
    grid: tuple[int, int],
    *,
    chunk: int | None = None,
    into: PointMap[Tensor] | None = None,
    recompute: bool = False,
    on_progress: ProgressCallback = no_progress,
) -> PointMap[Tensor]:
    """Maps of all views.

    Args:
        layers: Tokens of its four layers, one row per view.
        grid: Rows and columns of patches.
        chunk: Views that go through the head at once; None: all of them.
        into: Memory for the maps, on any device; None: new memory where the tokens are. Only
            without gradients.
        recompute: Keep nothing of a chunk for the backward pass, compute it again there.
        on_progress: Called after every chunk, without gradients.
    """
    views = layers[0].shape[0]
    step = min(chunk or views, views)
    on_progress("heads", 0)

    def run(*parts: Tensor) -> tuple[Tensor, Tensor]:
        if is_fused(parts[0]) and not torch.is_grad_enabled():
            assert head.refine.bias is not None
            return maps_of(head(parts, grid, last=False), head.refine.bias, head.out)
        return activate(head(parts, grid))

    if torch.is_grad_enabled() and into is None:
        done = [
            checkpoint(run, *parts, use_reentrant=False) if recompute else run(*parts)
            for parts in split_views(layers, step)
        ]
        return PointMap(*(join([pair[kind] for pair in done]) for kind in (0, 1)))
    if step == views and into is None:
        maps = PointMap(*run(*layers))
        on_progress("heads", views)
        return maps
    if into is None:
        rows, columns = (head.patch_size * side for side in grid)
        device = layers[0].device
        into = PointMap(
            torch.empty(views, rows, columns, 3, device=device),
            torch.empty(views, rows, columns, device=device),
        )
    return _fill(into, run, split_views(layers, step), on_progress)


def _fill(
    into: PointMap[Tensor],
    run: Callable[..., tuple[Tensor, Tensor]],
    chunks: Sequence[tuple[Tensor, ...]],
    on_progress: ProgressCallback,
) -> PointMap[Tensor]:
    # Copies to pinned memory overlap with the next chunk; the caller synchronizes.
    pinned, start = into.points.is_pinned(), 0
    for parts in chunks:
        points, confidence = run(*parts)
        end = start + len(points)
        into.points[start:end].copy_(points, non_blocking=pinned)
        into.confidence[start:end].copy_(confidence, non_blocking=pinned)
        on_progress("heads", end - start)
        start = end
    return into


def activate(raw: Float[Tensor, "n 4 H W"]) -> tuple[Tensor, Tensor]:
    """Points and confidences, from what a head predicts."""
    raw = raw if raw.dtype == torch.float64 else raw.float()
    raw = raw.permute(0, 2, 3, 1)  # (n, H, W, 4)
    return points_from_raw(raw[..., :3]), confidence_from_raw(raw[..., 3])


def split_views(layers: Sequence[Tensor], step: int) -> list[tuple[Tensor, ...]]:
    """The layers of `step` views at a time."""
    return list(zip(*(layer.split(step) for layer in layers), strict=True))


def join(parts: list[Tensor]) -> Tensor:
    """Concatenate, without a copy where there is one part."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
