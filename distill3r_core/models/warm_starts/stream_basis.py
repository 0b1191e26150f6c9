"""One basis for the residual stream of a decoder, in which a narrower one computes the same.

A layer norm takes the mean of a token away, so only the part that is orthogonal to the vector of
ones counts. All blocks read from and write into the same stream; a narrow student keeps the
directions into which they write most.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def helmert(width: int) -> Float[Tensor, "D E"]:
    """An orthonormal basis of what is orthogonal to the vector of ones, E = D - 1 columns."""
    basis = torch.zeros(width, width - 1, dtype=torch.float64)
    for column in range(width - 1):
        count = column + 1
        basis[:count, column] = 1 / math.sqrt(count * (count + 1))
        basis[count, column] = -count / math.sqrt(count * (count + 1))
    return basis


def written(writers: Iterable[Float[Tensor, "D _"]]) -> Float[Tensor, "D D"]:
    """The sum of M W W^T M over all layers W that write into the stream, M taking means away.

    Args:
        writers: Their weights, one after the other.
    """
    total: Tensor | None = None
    for weight in writers:
        centered = weight.double() - weight.double().mean(0, keepdim=True)
        gram = centered @ centered.T
        total = gram if total is None else total.add_(gram)
    assert total is not None, "no layer writes into the stream"
    return total


def projector(gram: Float[Tensor, "D D"], width: int) -> Float[Tensor, "D W"]:
    """P, which carries a token x of the teacher to P^T x of the student.

    P = E F^T: E are the `width - 1` leading eigenvectors of the Gram matrix that are orthogonal to
    the ones, F is the Helmert basis of the student. So P^T P takes the student's means away, and
    every token of the student has mean 0.

    Args:
        gram: Second moment of what is written into the stream, in the teacher's channels.
        width: Channels of the student, at most those of the teacher.
    """
    outer = helmert(len(gram))
    _, vectors = torch.linalg.eigh(outer.T @ gram.double() @ outer)  # rising eigenvalues
    leading = outer @ vectors.flip(1)[:, : width - 1]
    return leading @ helmert(width).T


def random_columns(rows: int, columns: int, *, seed: int) -> Float[Tensor, "R C"]:
    """A random matrix with orthonormal columns; with orthonormal rows where it is wider than high.

    Args:
        seed: Of the draw, which leaves torch's own numbers alone.
    """
    drawn = torch.randn(
        max(rows, columns),
        min(rows, columns),
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(seed),
    )
    found, triangle = torch.linalg.qr(drawn)
    found = found * triangle.diagonal().sign()
    return found if rows >= columns else found.T
