"""One network of the pair study: trained on pairs of rooms, scored on held-out ones."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill3r_core.benchmarks.pairs.pair_cells import CELLS, SPARSE, STUDENT, TEACHER, CellName
from distill3r_core.benchmarks.pairs.pair_data import PairRooms, PairTeacher
from distill3r_core.config import merge
from distill3r_core.data.loading.batches import Batch
from distill3r_core.losses import LossSettings, Objective
from distill3r_core.losses.feature_similarity import SimilarityOptions
from distill3r_core.models import StudentMetadata, build_student, load_student, save_student
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.models.warm_starts.pair_starts import WARM_STARTS
from distill3r_core.training.freezing import Freezer
from distill3r_core.training.schedule import learning_rate
from distill3r_core.training.settings import ComputeSettings, OptimSettings, ScheduleSettings
from distill3r_core.training.step import accumulate, build_optimizer, recorded_outputs
from distill3r_core.training.validation import distance
from distill3r_core.types import PointMaps

PRESET = "pair-tiny"
CURVE = 10  # points of a loss curve


@dataclass(frozen=True)
class PairSizes:
    """Length and data of the trainings; see `PairStudySettings`."""

    steps: int
    teacher_steps: int
    batch: int
    lr: float
    size: tuple[int, int]


@dataclass(frozen=True)
class PairOutcome:
    """What a trained network comes to.

    Args:
        global_error: Mean distance of the points of both views, in the first one's frame, to their
            true points in meters, after one scale per pair; mean over held-out pairs.
        local_error: The same of each view's own map, after one scale per view.
        curve: Mean training loss of each tenth of the steps.
    """

    global_error: float
    local_error: float
    parameters: int
    seconds: float
    curve: tuple[float, ...]

    def as_plain(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "curve": list(self.curve)}


def train_pair_teacher(
    rooms: PairRooms, sizes: PairSizes, path: Path, on_step: Callable[[], None]
) -> PairOutcome:
    """Train the teacher on exact targets, and write its weights."""
    torch.manual_seed(0)
    network = _built(TEACHER)
    loss = Objective(LossSettings().all_terms)
    batches = rooms.batches(sizes.teacher_steps, size=sizes.batch, seed=0)
    outcome = _train(network, loss, batches, sizes, sizes.teacher_steps, rooms, on_step)
    save_student(path, network, StudentMetadata(PRESET, network.spec, sizes.size))
    return outcome


def run_pair_trial(
    name: CellName,
    seed: int,
    rooms: PairRooms,
    sizes: PairSizes,
    teacher_path: Path,
    on_step: Callable[[], None],
) -> PairOutcome:
    """Train and score one student, in this process.

    Everything random comes from the seed: students of one seed see the same pairs in the same
    order.
    """
    cell, teacher_network = CELLS[name], load_student(teacher_path)
    assert isinstance(teacher_network, PairStudent)
    teacher = PairTeacher(teacher_network)
    torch.manual_seed(seed + 1)
    student = _built(merge(STUDENT, cell.model))
    if cell.start != "none":
        WARM_STARTS[cell.start].start(student, teacher_path)
    terms = dict(LossSettings().all_terms)
    if cell.features:
        terms["feature"] = SimilarityOptions(weight=cell.features)
    loss = Objective(terms)
    if cell.features:
        _prepare(student, loss, teacher, sizes.size)

    def batches() -> Iterator[Batch]:
        share = SPARSE if cell.truth else 1.0
        for batch in rooms.batches(sizes.steps, size=sizes.batch, seed=seed + 1, share=share):
            yield batch if cell.truth else teacher.targets(batch)

    features = teacher if cell.features else None
    frozen = ("encoder",) if cell.frozen else ()
    return _train(
        student, loss, batches(), sizes, sizes.steps, rooms, on_step, features, frozen=frozen
    )


def _train(
    network: PairStudent,
    loss: Objective,
    batches: Iterator[Batch],
    sizes: PairSizes,
    steps: int,
    rooms: PairRooms,
    on_step: Callable[[], None],
    features: PairTeacher | None = None,
    *,
    frozen: tuple[str, ...] = (),
) -> PairOutcome:
    started = time.process_time()
    optim = OptimSettings(lr=sizes.lr, freeze=frozen)
    schedule = ScheduleSettings(warmup_steps=None, final_lr=sizes.lr / 100)
    network.train()
    freezer = Freezer(network, optim)
    optimizer = build_optimizer(network, optim, terms=loss)
    losses: list[float] = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=steps, optim=optim, schedule=schedule)
        optimizer.zero_grad(set_to_none=True)
        freezer.before(step)
        values = accumulate(
            network,
            loss,
            batch,
            features=features,
            micro_batch=len(batch),
            compute=ComputeSettings(),
            bfloat16=False,
        )
        freezer.after(step)
        nn.utils.clip_grad_norm_([*network.parameters(), *loss.parameters()], optim.clip)
        optimizer.step()
        losses.append(float(values[0]))
        on_step()
    seconds = time.process_time() - started
    global_error, local_error = score(network, rooms)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return PairOutcome(global_error, local_error, parameters, seconds, _tenths(losses))


def score(network: PairStudent, rooms: PairRooms) -> tuple[float, float]:
    """Global and local error on held-out pairs, in meters; see `PairOutcome`."""
    network.eval()
    found: list[tuple[float, float]] = []
    for images, targets in rooms.held_out():
        with torch.no_grad():
            maps = network(images)
        assert isinstance(maps, PointMaps)
        global_map, local_map = maps.both
        mask = targets.valid_mask
        found.append(
            (
                float(distance(global_map.points, targets.points_global, mask, per_view=False)),
                float(distance(local_map.points, targets.points_local, mask, per_view=True)),
            )
        )
    whole, own = zip(*found, strict=True)
    return math.fsum(whole) / len(whole), math.fsum(own) / len(own)


def _prepare(
    student: PairStudent, loss: Objective, teacher: PairTeacher, size: tuple[int, int]
) -> None:
    """Build the projector of the term `feature`."""
    student.eval()
    with torch.no_grad(), recorded_outputs(student, loss.features.student) as outputs:
        student(torch.zeros(1, 2, 3, *size))
    loss.prepare(outputs, teacher.channels())


def _built(model: Any) -> PairStudent:
    student = build_student(PRESET, **model)
    assert isinstance(student, PairStudent)
    return student


def _tenths(losses: Sequence[float]) -> tuple[float, ...]:
    length = max(1, len(losses) // CURVE)
    parts = [losses[start : start + length] for start in range(0, len(losses), length)]
    return tuple(math.fsum(part) / len(part) for part in parts)
