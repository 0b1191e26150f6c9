"""How well a student repeats its teacher on samples it was not trained on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill3r_core.data.loading.batches import Samples
from distill3r_core.data.loading.teacher_features import FeatureSource
from distill3r_core.errors import ConfigError
from distill3r_core.losses import Objective
from distill3r_core.models.families import family_of
from distill3r_core.models.student import Student
from distill3r_core.training.distributed import World
from distill3r_core.training.settings import ComputeSettings
from distill3r_core.training.step import predict_and_compare
from distill3r_core.types import PointMaps, TeacherTargets

POINTS = "points_"  # before the frame, in names of mean distances
GLOBAL = "points_global"
SHAPE = "shape"
DISTANCES = ("points_local", GLOBAL, SHAPE)
SCENE_DISTANCES = ("points_scene", "mse_scene")


@dataclass(frozen=True)
class ValidationMetrics:
    """Means over held-out samples.

    Args:
        distances: Of a student's maps by name, in the teacher's own unit. `points_local` is the
            mean distance to the teacher's local points, each view brought to the teacher's scale
            (ratio of mean norms), and `points_global` the same with one scale for all views of a
            sample, over the samples whose views share a frame; without such samples it is not
            there. `shape` is that of local points as a share of the teacher's mean distance, sample
            by sample, so that samples of different units count alike. A scene student has
            `points_scene` instead, in the frame of the scene and without such a scale, and
            `mse_scene`, the mean square of a coordinate's error.
    """

    loss: float
    terms: Mapping[str, float]
    distances: Mapping[str, float]
    by_cache: Mapping[str, "ValidationMetrics"] = field(default_factory=dict)  # where several

    @property
    def row(self) -> dict[str, float]:
        """All of it by name: `validation_loss`, `validation_loss_<term>`, distances.

        The same of each of several caches has `@` and the label of the cache behind its name.
        """
        return {
            "validation_loss": self.loss,
            **{f"validation_loss_{name}": value for name, value in self.terms.items()},
            **{f"validation_{name}": value for name, value in self.distances.items()},
            **{
                f"{name}@{label}": value
                for label, metrics in self.by_cache.items()
                for name, value in metrics.row.items()
            },
        }

    @property
    def text(self) -> str:
        """The mean distances in words."""
        return distances_text(self.distances)


def figure_of_best(
    wanted: Literal["loss", "shape"] | None, student: nn.Module, loss: Objective
) -> str:
    """Which figure of `ValidationMetrics.row` the checkpoint `best` has the least of.

    The loss weighs what a head learns of the poses, which says little of new views, above the
    shape of local maps.

    Args:
        wanted: As the settings say; None: the shape of local maps, where the loss teaches them.

    Raises:
        ConfigError: Local maps are asked for, of a student that has none.
    """
    scene = _knows_scene(student)
    if wanted == SHAPE and scene:
        raise ConfigError(
            "validation.best: a scene student has no local maps", hint="validation.best=loss"
        )
    taught = not scene and loss.options["points_local"].weight > 0
    chosen = wanted or (SHAPE if taught else "loss")
    return f"validation_{chosen}"


def distances_text(distances: Mapping[str, float | None]) -> str:
    """`1.2 local, 3.4 global`, of values by the names of `ValidationMetrics.distances`."""
    return ", ".join(
        f"{value:.4g} {name.removeprefix(POINTS)}"
        for name, value in distances.items()
        if name.startswith(POINTS) and value is not None
    )


def validate(
    student: nn.Module,
    batches: Iterable[Samples],
    loss: Objective,
    *,
    features: FeatureSource | None = None,
    compute: ComputeSettings,
    bfloat16: bool,
    world: World,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> ValidationMetrics:
    """Evaluate the student on held-out samples. It is left in training mode.

    Args:
        labels: Label of the cache of each held-out sample, by name; empty: there is one cache.
        batches: This process's share of the held-out samples.
        features: Where the teacher features that the objective reads come from.
        bfloat16: Whether matrix products run in bfloat16.
    """
    device = next(student.parameters()).device
    groups = list(dict.fromkeys(labels.values()))
    bare = student.module if isinstance(student, DistributedDataParallel) else student
    names = SCENE_DISTANCES if _knows_scene(bare) else DISTANCES
    width = 3 + len(loss.names) + len(names)
    sums = torch.zeros(1 + len(groups), width, dtype=torch.float64, device=device)
    student.eval()
    with torch.no_grad():
        for batch in batches:
            there = batch.to(device)
            predicted, terms = predict_and_compare(
                student, loss, there, features=features, compute=compute, bfloat16=bfloat16
            )
            values = [
                terms.total,
                *terms.parts.values(),
                *_distances(bare, predicted, there.targets),
                there.targets.global_mask.any(-1).any(-1).any(-1).double().mean(),
                torch.ones((), device=device),
            ]
            added = len(batch) * torch.stack([value.double() for value in values])
            sums[0] += added
            if groups:  # its samples share a cache: each comes alone
                sums[1 + groups.index(labels[batch.draws[0].name])] += added
    student.train()
    whole, *parts = world.sum(sums).tolist()
    found = [_means(part, loss.names, names) for part in parts]
    return replace(_means(whole, loss.names, names), by_cache=dict(zip(groups, found, strict=True)))


def _means(
    sums: Sequence[float], terms: Sequence[str], distances: Sequence[str]
) -> ValidationMetrics:
    """What the sums over some samples say.

    Args:
        sums: Of the loss, of each term, of each distance, and the number of samples with a place
            in a common frame, of all samples.
    """
    *totals, placed, count = sums
    assert count > 0, "no samples to validate on"
    of_terms = [total / count for total in totals[1 : 1 + len(terms)]]
    of_maps = dict(zip(distances, totals[1 + len(terms) :], strict=True))
    counts = {name: placed if name == GLOBAL else count for name in distances}
    return ValidationMetrics(
        totals[0] / count,
        dict(zip(terms, of_terms, strict=True)),
        {name: total / counts[name] for name, total in of_maps.items() if counts[name]},
    )


def _knows_scene(student: nn.Module) -> bool:
    return isinstance(student, Student) and family_of(student.spec).frame == "scene"


def _distances(
    student: nn.Module, predicted: PointMaps, targets: TeacherTargets
) -> tuple[Float[Tensor, ""], ...]:
    """The distances of a student's maps, see `ValidationMetrics`."""
    mask = targets.valid_mask
    if not _knows_scene(student):
        global_map, local_map = predicted.both
        return (
            distance(local_map.points, targets.points_local, mask, per_view=True),
            # A sample whose views share no frame adds 0 here, and is not counted.
            distance(global_map.points, targets.points_global, targets.global_mask, per_view=False),
            _shape(local_map.points, targets.points_local, mask),
        )
    assert isinstance(student, Student)
    wanted = replace(predicted, points_global=targets.points_global)
    mine, true = (student.placed(maps).points_global for maps in (predicted, wanted))
    assert mine is not None and true is not None
    error = torch.where(mask[..., None], mine - true, 0.0)
    count = mask.sum((1, 2, 3)).clamp(min=1)
    return (
        (error.norm(dim=-1).sum((1, 2, 3)) / count).mean(),
        (error.square().mean(-1).sum((1, 2, 3)) / count).mean(),
    )


def distance(
    points: Float[Tensor, "B N H W 3"],
    wanted: Float[Tensor, "B N H W 3"],
    mask: Bool[Tensor, "B N H W"],
    *,
    per_view: bool,
) -> Float[Tensor, ""]:
    """Mean distance over valid pixels after the scale is taken from `wanted`, in its unit.

    Args:
        points: In any unit.
        wanted: In the unit of the result.
        mask: The pixels that count.
        per_view: One scale per view; otherwise one per sample.
    """
    return _of_samples(points, wanted, mask, per_view=per_view).mean()


def _shape(
    points: Float[Tensor, "B N H W 3"],
    wanted: Float[Tensor, "B N H W 3"],
    mask: Bool[Tensor, "B N H W"],
) -> Float[Tensor, ""]:
    """The distance of local maps as a share of the teacher's own, sample by sample."""
    count = mask.sum((1, 2, 3)).clamp(min=1)
    size = torch.where(mask, wanted.norm(dim=-1), 0.0).sum((1, 2, 3)) / count
    return (_of_samples(points, wanted, mask, per_view=True) / size.clamp(min=1e-8)).mean()


def _of_samples(
    points: Float[Tensor, "B N H W 3"],
    wanted: Float[Tensor, "B N H W 3"],
    mask: Bool[Tensor, "B N H W"],
    *,
    per_view: bool,
) -> Float[Tensor, " B"]:
    """See `distance`; of each sample."""
    dims = (-2, -1) if per_view else (-3, -2, -1)

    def norm(values: Float[Tensor, "B N H W 3"]) -> Float[Tensor, "..."]:
        return torch.where(mask, values.norm(dim=-1), 0.0).sum(dims, keepdim=True)

    scale = norm(wanted) / norm(points).clamp(min=1e-8)
    error = (points * scale[..., None] - wanted).norm(dim=-1)
    per_sample = torch.where(mask, error, 0.0).sum((1, 2, 3))
    return per_sample / mask.sum((1, 2, 3)).clamp(min=1)
