"""The cut of arXiv:2607.01851: a smaller tensor from a larger one, each in its own coordinates."""

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor


def cut(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of a smaller shape that starts from this one.

    Of one axis the first entries. A matrix W = U diag(s) V^T to (o, i): the top-left o x i block
    of its best approximation of rank r = min(o, i, number of singular values), which is
    `U[:o, :r] diag(s[:r]) V^T[:r, :i]`. A convolution is flattened to (first axis, all others).

    Args:
        tensor: In any float type; computed in float64.
        shape: As many axes, none of them longer; of a convolution the axes behind the second are
            the same.
    """
    shape = tuple(shape)
    assert tensor.ndim == len(shape) and all(map(operator.le, shape, tensor.shape)), (
        tensor.shape,
        shape,
    )
    if tuple(tensor.shape) == shape:
        return tensor
    if tensor.ndim == 1:
        return tensor[: shape[0]]
    assert tuple(tensor.shape[2:]) == shape[2:], "a convolution keeps its taps"
    left, values, right = torch.linalg.svd(tensor.double().flatten(1), full_matrices=False)
    rows, columns = shape[0], math.prod(shape[1:])
    rank = min(rows, columns, len(values))
    block = (left[:rows, :rank] * values[:rank]) @ right[:rank, :columns]
    return block.reshape(shape)


def cut_apart(
    tensor: Tensor,
    shape: Sequence[int],
    *,
    rows: Sequence[int] = (),
    columns: Sequence[tuple[int, int]] = (),
) -> Tensor:
    """`cut` of each part of a tensor that is several side by side.

    Args:
        shape: Shape of the whole result.
        rows: Rows of the parts (queries, keys and values), before; empty: one part. Those of the
            result are in the same proportions.
        columns: Columns of each part, before and in the result; empty: one part.
    """
    if rows:
        whole = sum(rows)
        parts = tensor.split(list(rows))
        heights = [shape[0] * part // whole for part in rows]
        return torch.cat(
            [cut(part, (height, *shape[1:])) for part, height in zip(parts, heights, strict=True)]
        )
    if columns:
        parts = tensor.split([before for before, _ in columns], dim=1)
        return torch.cat(
            [cut(part, (shape[0], after)) for part, (_, after) in zip(parts, columns, strict=True)],
            dim=1,
        )
    return cut(tensor, shape)
