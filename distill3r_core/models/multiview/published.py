"""A multiview student in the published order of operations: the reference for the fast one.

All views are encoded at once, every layer of the fusion is kept, and the heads run as published.
Slow, and takes much memory.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from distill3r_core.models.multiview.groups import assemble, join_views, tokens_of
from distill3r_core.models.multiview.student import MultiviewStudent
from distill3r_core.models.student import HeadName, OneHead
from distill3r_core.models.tokens.view_groups import Group, group_by_size
from distill3r_core.nn.dpt import DPTHead, hooked_layers
from distill3r_core.nn.dpt_reference import published_maps
from distill3r_core.nn.view_codes import sequential_view_numbers
from distill3r_core.types import Images, PointMap, PointMaps


def published_forward(
    student: MultiviewStudent,
    images: Images | Sequence[Float[Tensor, "3 _ _"]],
    *,
    head: HeadName = "both",
    head_chunk: int | None = None,
    view_numbers: Int[Tensor, "B N"] | None = None,
) -> PointMaps | list[PointMaps]:
    """The result of `student(images)`, up to rounding.

    Args:
        images: See `Student.forward`.
        head_chunk: Views that go through a head at once; None: all.
        view_numbers: Number of every view; None: sequential.
    """
    groups = group_by_size(images, student.spec.encoder.patch)
    batch = len(groups[0].images)
    encoded = [
        student.encode(group.images.flatten(0, 1)).unflatten(0, (batch, -1)) for group in groups
    ]
    tokens, lengths = join_views(groups, encoded)
    if view_numbers is None:
        view_numbers = sequential_view_numbers(batch, len(lengths))
    layers = student.fusion(tokens, view_numbers, lengths, layers=None)
    layers = [layers[hook] for hook in hooked_layers(student.spec.fusion.depth)]
    modules: dict[OneHead, DPTHead] = {"global": student.global_head, "local": student.local_head}

    def maps_of(group: Group) -> dict[OneHead, PointMap[Tensor]]:
        rows = [tokens_of(layer, group, lengths) for layer in layers]
        return {
            name: published_maps(module, rows, group.grid, chunk=head_chunk)
            for name, module in modules.items()
            if head in ("both", name)
        }

    parts = ((group, maps_of(group)) for group in groups)
    maps = assemble(parts, as_list=not isinstance(images, Tensor))
    return student.sized(maps, layers[-1], lengths)
