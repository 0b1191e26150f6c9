"""A small random network of pairs that sees what a camera could see."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill3r_core.nn.dpt import DPTHead
from distill3r_core.teachers import build_teacher
from distill3r_core.types import View

DISTANCE = 2.0  # of the wall that is seen, in the direction of the optical axis
RIDGE = 1e-6  # of the mean square of a channel


def fit_last_layers(folder: Path, name: str, images: Sequence[Path]) -> None:
    """Set the last layers of a hub folder's network so that views show a wall in front of them.

    With random weights x and y are no function of where a pixel is (x may fall to the right), which
    no pinhole camera sees: the alignment then rightly gives such a view no pose. Everything before
    the last layer stays random, so the wall is uneven.

    Args:
        folder: Hub folder of the network.
        name: Name of the teacher.
        images: Images of one scene, whose neighbors are the pairs that the layers are fitted to.
    """
    teacher = build_teacher(name, folder)
    views = []
    for path in images:
        with Image.open(path) as image:
            views.append(teacher.prepare(View(np.asarray(image), sample="fit", index=len(views))))
    heads = list(teacher.network.point_heads)
    sums = [[0.0, 0.0] for _ in heads]  # of feature by feature, and feature by target

    def add(side: int, head: DPTHead, layers: Sequence[Tensor], grid: tuple[int, int]) -> None:
        raw = head(layers, grid, last=False) + head.refine.bias[:, None, None]
        features = raw.relu().flatten(2)[0].T.double()  # (H*W, C)
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        target = _raw_wall(raw.shape[-2], raw.shape[-1])
        sums[side][0] += features.T @ features
        sums[side][1] += features.T @ target

    inside = False  # of a pass that `add` makes

    def seen(side: int):
        def hook(head, arguments, options):
            nonlocal inside
            if not inside:
                inside = True
                add(side, head, *arguments)
                inside = False

        return hook

    hooks = [
        head.register_forward_pre_hook(seen(side), with_kwargs=True)
        for side, head in enumerate(heads)
    ]
    with torch.inference_mode():
        tokens = [teacher.network.encode(2 * view.image[None] - 1) for view in views]
        for first, second in pairwise(tokens):
            teacher.network.decode(first, second)
    for hook in hooks:
        hook.remove()
    tensors = load_file(folder / "model.safetensors")
    for side, (square, moment) in enumerate(sums, start=1):
        damped = square + RIDGE * square.diagonal().mean() * torch.eye(len(square))
        solved = torch.linalg.solve(damped, moment).T.float()
        last = f"downstream_head{side}.dpt.head.4"
        tensors[f"{last}.weight"][:3] = solved[:, :-1, None, None]
        tensors[f"{last}.bias"][:3] = solved[:, -1]
    save_file(tensors, folder / "model.safetensors")


def _raw_wall(rows: int, columns: int) -> Tensor:
    """What a head has to give before its activation for a wall, (H*W, 3)."""
    v, u = torch.meshgrid(
        torch.arange(rows) + 0.5 - rows / 2,
        torch.arange(columns) + 0.5 - columns / 2,
        indexing="ij",
    )
    focal = float(max(rows, columns))
    points = DISTANCE * torch.stack([u / focal, v / focal, torch.ones_like(u)], dim=-1).double()
    distance = points.norm(dim=-1, keepdim=True)
    return (points / distance * distance.log1p()).flatten(0, 1)
