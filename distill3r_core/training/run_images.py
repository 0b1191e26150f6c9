"""Images of a run: losses over the steps, and the student's maps beside the teacher's."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill3r_core.data.loading.augment import unit_images
from distill3r_core.data.loading.batches import Samples
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity
from distill3r_core.io.charts import Line, save_line_chart
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.training.metrics_log import MovingMean, read_metrics
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import predict
from distill3r_core.types import PointMap, PointMaps, TeacherTargets

ROWS = 6  # views shown
HEADINGS = ("picture", "student's depth", "teacher's depth", "student's confidence", "teacher's")


def save_loss_chart(path: Path, metrics: Path, *, terms: Mapping[str, str]) -> None:
    """Losses by step, on a logarithmic axis, from the rows of a run."""
    rows = list(read_metrics(metrics))
    train = [row for row in rows if row.get("loss") is not None]
    validated = [row for row in rows if row.get("validation_loss") is not None]
    steps = [row["step"] for row in train]
    mean = MovingMean()
    lines = [
        Line("loss", steps, [row["loss"] for row in train]),
        Line("its moving mean", steps, [mean.add(row["loss"]) for row in train]),
    ]
    for name, label in terms.items():
        values = [row[f"loss_{name}"] for row in train]
        if any(values):  # a term of weight 0 has no place on a logarithmic axis
            lines.append(Line(label, steps, values, dashed=True))
    if validated:
        held_out = Line(
            "held out",
            [row["step"] for row in validated],
            [row["validation_loss"] for row in validated],
            markers=True,
        )
        lines.append(held_out)
    save_line_chart(path, lines, title="Training", x_label="step", y_label="loss", y_scale="log")


def save_predictions(
    path: Path,
    student: nn.Module,
    batches: Iterable[Samples],
    *,
    compute: ComputeSettings,
    bfloat16: bool,
) -> None:
    """A grid of held-out views: the student's depth and confidence beside the teacher's.

    Args:
        student: Left in training mode.
        batches: Batches of one sample each; the first views of the first few are shown.
        bfloat16: Whether matrix products run in bfloat16.
    """
    device = next(student.parameters()).device
    panels: list[list[np.ndarray]] = []
    captions: list[str] = []
    student.eval()
    for batch in batches:
        there = batch.to(device)
        with torch.no_grad():
            maps = predict(student, there, compute=compute, bfloat16=bfloat16)
        local_map = maps.local_map or _seen_by_teacher(maps, there.targets)
        targets = there.to(torch.device("cpu")).targets
        views = range(min(2, targets.valid_mask.shape[1]))
        for view in views:
            mask = targets.valid_mask[0, view].numpy()
            if not mask.any():
                continue
            mine = local_map.points[0, view].float().cpu()
            wanted = targets.points_local[0, view]
            # The loss leaves the scale open: the student's is brought to the teacher's.
            scale = float(wanted.norm(dim=-1)[mask].mean() / mine.norm(dim=-1)[mask].mean())
            depths = ((mine[..., 2] * scale).numpy(), wanted[..., 2].numpy())
            trust = (
                local_map.confidence[0, view].float().cpu().numpy(),
                targets.confidence_local[0, view].numpy(),
            )
            span, trusted = limits(depths[1], mask), limits(trust[1], mask)
            photo = unit_images(there.images[0, view].cpu()).movedim(0, -1).mul(255).round()
            panels.append(
                [
                    photo.to(torch.uint8).numpy(),
                    colorize(depths[0], table="depth", span=span),
                    colorize(depths[1], table="depth", span=span, mask=mask),
                    colorize(trust[0], table="confidence", span=trusted),
                    colorize(trust[1], table="confidence", span=trusted, mask=mask),
                ]
            )
            captions.append(f"{there.draws[0].name}, view {view}")
        if len(panels) >= ROWS:
            break
    student.train()
    if panels:
        write_image(path, compose(panels, headings=HEADINGS, captions=captions))


def _seen_by_teacher(maps: PointMaps, targets: TeacherTargets) -> PointMap[Tensor]:
    """A scene student's points in the frames of the cameras as the teacher placed them."""
    assert maps.global_map is not None, "a student has one map at least"
    local_from_global = invert_similarity(targets.global_from_local)
    points = apply_similarity(local_from_global, maps.global_map.points.to(local_from_global.dtype))
    return PointMap(points, maps.global_map.confidence)
