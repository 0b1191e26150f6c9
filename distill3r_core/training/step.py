"""One optimizer step: forward and backward by micro-batches, then AdamW."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill3r_core.data.loading.augment import unit_images
from distill3r_core.data.loading.batches import Batch, Samples
from distill3r_core.data.loading.teacher_features import FeatureSource
from distill3r_core.errors import ConfigError
from distill3r_core.losses import LossTerms, Objective
from distill3r_core.models.student import Student
from distill3r_core.system.allocator import keep_freed_memory
from distill3r_core.training.settings import ComputeSettings, OptimSettings
from distill3r_core.types import PointMaps


@dataclass(frozen=True)
class StepMetrics:
    """What is monitored of a step: means over its samples.

    Args:
        norm_student: Mean norm of the student's raw points over valid pixels, both maps together.
        confidence_student: Mean confidence of the student over valid pixels, both maps together.
    """

    loss: float
    terms: Mapping[str, float]
    norm_student: float
    norm_teacher: float  # the same for the teacher, in its own unit
    confidence_student: float
    confidence_teacher: float

    @classmethod
    def from_values(cls, values: Sequence[float], *, terms: Sequence[str]) -> "StepMetrics":
        """From the values that `accumulate` gives for an objective of these terms."""
        loss, *others = values
        by_term = dict(zip(terms, others, strict=False))
        return cls(loss, by_term, *others[len(terms) :])

    @property
    def row(self) -> dict[str, float]:
        """All of it by name, each term as `loss_<term>`."""
        row = {**vars(self)}
        terms = {f"loss_{name}": value for name, value in row.pop("terms").items()}
        return {"loss": row.pop("loss"), **terms, **row}


# Default number of views that go through a head at once: enough to fill the units, few enough for
# the processor's caches.
HEAD_CHUNK = {"cpu": 8, "cuda": 20}

_KEPT_BLOCK, _KEPT = 1 << 30, (1 << 31) - 1  # bytes


def build_optimizer(
    model: nn.Module, optim: OptimSettings, *, terms: nn.Module | None = None
) -> torch.optim.AdamW:
    """AdamW, fused; with `decay: matrices` only tensors of two and more axes decay.

    Args:
        terms: The objective, whose parameters are trained as well and never decay.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in trained if optim.decay == "all" or p.ndim >= 2]
    others = [p for p in trained if optim.decay == "matrices" and p.ndim < 2]
    others += [p for p in (terms.parameters() if terms is not None else ()) if p.requires_grad]
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optim.lr,
        betas=optim.betas,
        eps=optim.eps,
        fused=True,
    )


def clip_gradients(
    student: nn.Module, of_terms: Sequence[nn.Parameter], *, limit: float
) -> Float[Tensor, " parts"]:
    """Shorten gradients to a norm, and say what it was: of all, then of each part that is apart.

    Args:
        student: Its parts with a loss of their own (`Student.APART`) are clipped by themselves.
        of_terms: Trained parameters of the objective, clipped with the rest.
    """
    names = student.APART if isinstance(student, Student) else ()
    modules = [part for name in names if (part := getattr(student, name)) is not None]
    parts = [list(part.parameters()) for part in modules]
    apart = {parameter for part in parts for parameter in part}
    rest = [parameter for parameter in student.parameters() if parameter not in apart]
    groups = [[*rest, *of_terms], *parts]
    norms = [nn.utils.clip_grad_norm_(group, limit) for group in groups]
    device = next(student.parameters()).device
    return torch.stack([norm.to(device) for norm in norms])  # without gradients it is on the CPU


def prepare_memory(device: torch.device) -> None:
    """Keep freed memory for the next step: on a CPU a tenth of a step were page faults."""
    if device.type == "cpu":
        keep_freed_memory(block=_KEPT_BLOCK, kept=_KEPT)


def head_chunk(compute: ComputeSettings, device: torch.device) -> int | None:
    """Views that go through a head at once; None: all of them."""
    return compute.head_chunk or HEAD_CHUNK.get(device.type)


def predict(
    student: nn.Module, batch: Batch, *, compute: ComputeSettings, bfloat16: bool
) -> PointMaps:
    """The student's maps for a batch on its device."""
    parameter = next(student.parameters())
    images = unit_images(batch.images, batch.colors).to(parameter.dtype)
    with torch.autocast(parameter.device.type, torch.bfloat16, enabled=bfloat16):
        return student(
            images,
            view_numbers=batch.view_numbers,
            head_chunk=head_chunk(compute, parameter.device),
            recompute=compute.recompute,
        )


def predict_and_compare(
    student: nn.Module,
    loss: Objective,
    batch: Batch,
    *,
    features: FeatureSource | None = None,
    compute: ComputeSettings,
    bfloat16: bool,
) -> tuple[PointMaps, LossTerms]:
    """The student's prediction for a batch on its device, and its loss.

    Args:
        student: Bare, or wrapped for several processes.
        batch: Samples on the student's device.
        features: Where the teacher features that the objective reads come from.
        bfloat16: Whether matrix products run in bfloat16.
    """
    bare = student.module if isinstance(student, DistributedDataParallel) else student
    with recorded_outputs(bare, loss.features.student) as outputs:
        predicted = predict(student, batch, compute=compute, bfloat16=bfloat16)
    teacher = features.features(batch) if features is not None else {}
    terms = loss(predicted, batch.targets, teacher_features=teacher, student_features=outputs)
    return predicted, terms


@contextmanager
def recorded_outputs(student: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The output of each named submodule in the pass that runs within the block.

    Of a submodule that runs several times: the first output. Without gradients a pass takes views
    a few at a time, and the rows of all tensors are one after another, as in a single call.

    Raises:
        ConfigError: The student has no such submodule.
    """
    outputs: dict[str, Any] = {}
    parts = {name: _part(student, name) for name in names}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            before = outputs.setdefault(name, output)
            if before is not output and isinstance(output, Tensor) and not torch.is_grad_enabled():
                outputs[name] = torch.cat([before, output])

        return hook

    with ExitStack() as stack:
        for name, part in parts.items():
            hook = part.register_forward_hook(keep(name))
            stack.callback(hook.remove)
        yield outputs


def _part(student: nn.Module, name: str) -> nn.Module:
    try:
        return student.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(part for part, _ in student.named_children())
        raise ConfigError(
            f"loss.terms: a term of features reads the student's part {name!r}, which it has not",
            hint=f"name one of its parts by the term's `student`: {known}",
        ) from error


def accumulate(
    student: nn.Module,
    loss: Objective,
    batch: Samples,
    *,
    features: FeatureSource | None = None,
    micro_batch: int,
    compute: ComputeSettings,
    bfloat16: bool,
) -> Float[Tensor, "values"]:
    """Add the gradient of the batch's mean loss to the student's.

    Does not wait for the device.

    Args:
        student: Bare, or wrapped for several processes.
        batch: Samples of the step; each micro-batch is finished on the student's device.
        features: Where the teacher features that the objective reads come from.
        micro_batch: Samples that go through the student at once.
        bfloat16: Whether matrix products run in bfloat16.

    Returns:
        The values of the batch for `StepMetrics.from_values`.
    """
    device = next(student.parameters()).device
    starts = range(0, len(batch), micro_batch)
    totals: Tensor | None = None
    for start in starts:
        part = batch.rows(start, start + micro_batch).to(device)
        share = len(part) / len(batch)
        last = start == starts[-1]
        wrapped = isinstance(student, DistributedDataParallel)
        with student.no_sync() if wrapped and not last else nullcontext():
            predicted, terms = predict_and_compare(
                student, loss, part, features=features, compute=compute, bfloat16=bfloat16
            )
            (share * terms.total).backward()
        with torch.no_grad():
            values = [terms.total, *terms.parts.values(), *_norms(predicted, part)]
            weighted = share * torch.stack(values).float()
            totals = weighted if totals is None else totals + weighted
    assert totals is not None, "a batch has samples"
    return totals


def _unscaled_norm(
    points: Float[Tensor, "B N H W 3"] | None, log_factor: Float[Tensor, "B N"] | None
) -> Float[Tensor, "B N H W"] | None:
    """Distances of points before a factor was applied to them; None: none was."""
    if points is None:
        return None
    norm = points.norm(dim=-1)
    return norm if log_factor is None else norm * log_factor.neg().exp()[..., None, None]


def _norms(predicted: PointMaps, batch: Batch) -> Iterable[Float[Tensor, ""]]:
    """Mean norms of raw points, student's and teacher's, then mean confidences."""
    mask, count = batch.targets.valid_mask, batch.targets.valid_mask.sum().clamp(min=1)

    def mean(maps: Sequence[Float[Tensor, "B N H W"] | None]) -> Float[Tensor, ""]:
        """Over valid pixels, and over the maps that the student predicts."""
        first, *others = [
            torch.where(mask, values, 0.0).sum() / count for values in maps if values is not None
        ]
        return sum(others, start=first) / (1 + len(others))

    # As the heads gave them: at a predicted size nothing shows that points run away.
    raw = (
        _unscaled_norm(predicted.points_global, predicted.log_resized_global),
        _unscaled_norm(predicted.points_local, predicted.log_resized_local),
    )
    targets = (batch.targets.points_global, batch.targets.points_local)
    yield mean(raw)
    yield mean([None if points is None else points.norm(dim=-1) for points in targets])
    for side in (predicted, batch.targets):
        yield mean([side.confidence_global, side.confidence_local])
