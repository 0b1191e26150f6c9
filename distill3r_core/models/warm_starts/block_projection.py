"""One decoder block in the student's basis: select heads and hidden units, project the rest.

Attention mixes no channels of a head's keys with another's, and GELU acts on each hidden unit by
itself, so heads and units are selected whole; only the residual stream is mixed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BlockTensors = Mapping[str, Tensor]  # by name within the block
_NORMS = ("norm1", "norm2", "norm3", "norm_y")


@dataclass(frozen=True)
class BlockShape:
    """Sizes of a student's block."""

    heads: int
    head_width: int
    hidden: int


@dataclass(frozen=True)
class ProjectedBlock:
    """A student's block and what it kept of the teacher's."""

    tensors: dict[str, Tensor]
    self_heads: tuple[int, ...]
    cross_heads: tuple[int, ...]
    units: tuple[int, ...]


def project_block(
    block: BlockTensors, basis: Float[Tensor, "D W"], shape: BlockShape
) -> ProjectedBlock:
    """The tensors of a student's block, in float64.

    The scale of a norm is multiplied into the layer behind it; what remains of it is
    sqrt(D / W), as the student's tokens have the same length in fewer channels.

    Args:
        block: The teacher's tensors.
        basis: P of `stream_basis.projector`.
        shape: Of the student's block; its heads are as wide as the teacher's.
    """
    block = {name: tensor.double() for name, tensor in block.items()}
    queries, keys, values = block["attn.qkv.weight"].chunk(3)
    own = head_scores(
        block["attn.proj.weight"], values, block["norm1.weight"], width=shape.head_width
    )
    cross = head_scores(
        block["cross_attn.proj.weight"],
        block["cross_attn.projv.weight"],
        block["norm_y.weight"],
        width=shape.head_width,
    )
    scores = unit_scores(block["mlp.fc1.weight"] * block["norm3.weight"], block["mlp.fc2.weight"])
    kept, seen = _largest(own, shape.heads), _largest(cross, shape.heads)
    units = _largest(scores, shape.hidden)
    mine, theirs = (_channels(heads, shape.head_width) for heads in (kept, seen))
    found: dict[str, Tensor] = {}
    parts = [
        _read(block, weight[mine], bias[mine], "norm1", basis)
        for weight, bias in zip(
            (queries, keys, values), block["attn.qkv.bias"].chunk(3), strict=True
        )
    ]
    found["attn.qkv.weight"] = torch.cat([weight for weight, _ in parts])
    found["attn.qkv.bias"] = torch.cat([bias for _, bias in parts])
    for layer, norm in (("projq", "norm2"), ("projk", "norm_y"), ("projv", "norm_y")):
        name = f"cross_attn.{layer}"
        weight, bias = block[f"{name}.weight"][theirs], block[f"{name}.bias"][theirs]
        found[f"{name}.weight"], found[f"{name}.bias"] = _read(block, weight, bias, norm, basis)
    chosen = torch.tensor(units)
    found["mlp.fc1.weight"], found["mlp.fc1.bias"] = _read(
        block, block["mlp.fc1.weight"][chosen], block["mlp.fc1.bias"][chosen], "norm3", basis
    )
    for name, inputs in (("attn.proj", mine), ("cross_attn.proj", theirs), ("mlp.fc2", chosen)):
        found[f"{name}.weight"] = basis.T @ block[f"{name}.weight"][:, inputs]
        found[f"{name}.bias"] = basis.T @ block[f"{name}.bias"]
    for norm in _NORMS:
        found |= projected_norm(norm, basis)
    return ProjectedBlock(found, kept, seen, units)


def projected_norm(name: str, basis: Float[Tensor, "D W"]) -> dict[str, Tensor]:
    """What remains of a layer norm whose scale and shift are in the layers behind it."""
    teacher, student = basis.shape
    scale = math.sqrt(teacher / student)
    return {
        f"{name}.weight": torch.full((student,), scale, dtype=torch.float64),
        f"{name}.bias": torch.zeros(student, dtype=torch.float64),
    }


def read_normed(
    weight: Float[Tensor, "O D"],
    bias: Float[Tensor, "O"],
    scale: Float[Tensor, "D"],
    shift: Float[Tensor, "D"],
    basis: Float[Tensor, "D W"],
) -> tuple[Float[Tensor, "O W"], Float[Tensor, "O"]]:
    """A layer behind a norm of that scale and shift, for the student's tokens."""
    return (weight * scale) @ basis, weight @ shift + bias


def _read(
    block: BlockTensors, weight: Tensor, bias: Tensor, norm: str, basis: Tensor
) -> tuple[Tensor, Tensor]:
    return read_normed(weight, bias, block[f"{norm}.weight"], block[f"{norm}.bias"], basis)


def head_scores(
    out: Float[Tensor, "D D"],
    values: Float[Tensor, "D D"],
    scale: Float[Tensor, "D"],
    *,
    width: int,
) -> Float[Tensor, "H"]:
    """How much each head carries: the Frobenius norm of M W_o W_v diag(scale) M.

    Args:
        out: Weights behind the heads, columns by head.
        values: Weights of the values, rows by head.
        scale: Of the norm that values are read behind.
        width: Channels of a head.
    """
    out = out - out.mean(0, keepdim=True)
    values = values * scale
    values = values - values.mean(1, keepdim=True)
    products = (
        left @ right
        for left, right in zip(out.split(width, dim=1), values.split(width), strict=True)
    )
    return torch.stack([product.norm() for product in products])


def unit_scores(inner: Float[Tensor, "U D"], outer: Float[Tensor, "E U"]) -> Float[Tensor, "U"]:
    """How much each hidden unit carries: length of what it reads times that of what it writes.

    Args:
        inner: Weights to the units, the scale of their norm multiplied in.
        outer: Weights from the units.
    """
    inner = inner - inner.mean(1, keepdim=True)
    outer = outer - outer.mean(0, keepdim=True)
    return inner.norm(dim=1) * outer.norm(dim=0)


def _largest(scores: Tensor, count: int) -> tuple[int, ...]:
    """The places of the largest scores, in rising order; of equal ones the first."""
    order = torch.sort(scores, descending=True, stable=True).indices[:count]
    return tuple(sorted(order.tolist()))


def _channels(heads: tuple[int, ...], width: int) -> Tensor:
    """The channels of some heads."""
    return (torch.tensor(heads)[:, None] * width + torch.arange(width)).flatten()
