"""The DPT head in the published order of operations, which the fast one must agree with."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from distill3r_core.nn.dpt import DPTHead, RefinementStage, ResidualUnit, doubled
from distill3r_core.nn.maps import activate, join, split_views
from distill3r_core.nn.progress import ProgressCallback, no_progress
from distill3r_core.types import PointMap


def published_maps(
    head: DPTHead,
    layers: Sequence[Float[Tensor, "n P _"]],
    grid: tuple[int, int],
    *,
    chunk: int | None = None,
    on_progress: ProgressCallback = no_progress,
) -> PointMap[Tensor]:
    """What `predict_maps(head, layers, grid)` gives, up to rounding.

    Args:
        layers: Tokens of the four hooked layers, one row per view.
        grid: Rows and columns of patches.
        chunk: Views that go through the head at once; None: all of them.
        on_progress: Called after every chunk.
    """
    on_progress("heads", 0)
    done = []
    for parts in split_views(layers, chunk or len(layers[0])):
        done.append(activate(published_order(head, parts, grid)))
        on_progress("heads", len(parts[0]))
    points, confidences = zip(*done, strict=True)
    return PointMap(join(list(points)), join(list(confidences)))


def published_order(
    head: DPTHead, layers: Sequence[Float[Tensor, "n P _"]], grid: tuple[int, int]
) -> Float[Tensor, "n channels H W"]:
    """What `head(layers, grid)` gives, up to rounding.

    Args:
        layers: Tokens of the four hooked layers, patches in row-major order.
        grid: Rows and columns of patches.
    """
    kind = head.narrow.weight.dtype
    maps = []
    for tokens, project, resize, reduce in zip(
        layers, head.project, head.resize, head.reduce, strict=True
    ):
        assert isinstance(project, nn.Conv2d)
        x = project(tokens.to(project.weight.dtype).mT.unflatten(2, grid))
        maps.append(reduce(resize(x.to(kind))))
    coarsest, *others = head.from_coarse_to_fine()
    x = _stage(coarsest, maps[3], None)[..., : grid[0], : grid[1]]
    for stage, finer in zip(others, reversed(maps[:3]), strict=True):
        x = _stage(stage, x, finer)
    size = (head.patch_size * grid[0], head.patch_size * grid[1])
    x = relu(head.refine(_upsample(head.narrow(x), size)))
    return head.out(x.to(head.out.weight.dtype))


def _stage(stage: RefinementStage, x: Tensor, finer: Tensor | None) -> Tensor:
    if finer is not None:
        assert stage.skip_unit is not None
        x = x + _residual(stage.skip_unit, finer)
    x = _residual(stage.unit, x)
    return stage.mix(_upsample(x, doubled(x)))


def _residual(unit: ResidualUnit, x: Tensor) -> Tensor:
    return x + unit.conv2(relu(unit.conv1(relu(x))))


def _upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(x, size, mode="bilinear", align_corners=True)
