"""One network of the pair study: trained on pairs of rooms, scored on held-out ones."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill3r_core.benchmarks.cell_results import tenths
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
_TIMED = 2  # steps, of which the faster counts


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
    training = _training_of_teacher(rooms, sizes)
    outcome = _train(training, sizes, rooms, on_step)
    _save(path, training.network, sizes)
    return outcome


def run_pair_trial(
    name: CellName,
    seed: int,
    rooms: PairRooms,
    sizes: PairSizes,
    teacher_path: Path,
    on_step: Callable[[], None],
    *,
    encoder_path: Path | None = None,
    kept_at: Path | None = None,
) -> PairOutcome:
    """Train and score one student, in this process.

    Everything random comes from the seed: students of one seed see the same pairs in the same
    order.

    Args:
        encoder_path: Student whose encoder it begins with; None: a random one.
        kept_at: Where its weights are written; None: nowhere.
    """
    teacher = load_student(teacher_path)
    assert isinstance(teacher, PairStudent)
    training = _training_of_student(name, seed, rooms, sizes, teacher)
    if (start := CELLS[name].start) != "none":
        WARM_STARTS[start].start(training.network, teacher_path)
    if encoder_path is not None:
        trained = load_student(encoder_path)
        assert isinstance(trained, PairStudent)
        training.network.encoder.load_state_dict(trained.encoder.state_dict())
    outcome = _train(training, sizes, rooms, on_step)
    if kept_at is not None:
        _save(kept_at, training.network, sizes)
    return outcome


def _save(path: Path, network: PairStudent, sizes: PairSizes) -> None:
    save_student(path, network, StudentMetadata(PRESET, network.spec, sizes.size))


def teacher_step_seconds(rooms: PairRooms, sizes: PairSizes) -> float:
    """Seconds by the clock of one step of the teacher's training."""
    return _step_seconds(_training_of_teacher(rooms, sizes), sizes)


def student_step_seconds(name: CellName, rooms: PairRooms, sizes: PairSizes) -> float:
    """Seconds by the clock of one step of a student's training, its teacher's pass included.

    The teacher need not be there yet: a random one of its sizes takes as long.
    """
    return _step_seconds(_training_of_student(name, 0, rooms, sizes, _built(TEACHER)), sizes)


@dataclass(frozen=True)
class _Training:
    """What is trained on what."""

    network: PairStudent
    loss: Objective
    batches: Iterator[Batch]
    steps: int
    features: PairTeacher | None = None
    frozen: tuple[str, ...] = ()


def _training_of_teacher(rooms: PairRooms, sizes: PairSizes) -> _Training:
    torch.manual_seed(0)
    batches = rooms.batches(sizes.teacher_steps, size=sizes.batch, seed=0)
    loss = Objective(LossSettings().all_terms)
    return _Training(_built(TEACHER), loss, batches, sizes.teacher_steps)


def _training_of_student(
    name: CellName, seed: int, rooms: PairRooms, sizes: PairSizes, teacher_network: PairStudent
) -> _Training:
    """The training of a cell's student, without what its decoder and heads start from."""
    cell, teacher = CELLS[name], PairTeacher(teacher_network)
    torch.manual_seed(seed + 1)
    student = _built(merge(STUDENT, cell.model))
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

    return _Training(
        student,
        loss,
        batches(),
        sizes.steps,
        features=teacher if cell.features else None,
        frozen=("encoder",) if cell.frozen else (),
    )


def _train(
    training: _Training, sizes: PairSizes, rooms: PairRooms, on_step: Callable[[], None]
) -> PairOutcome:
    started, losses = time.process_time(), []
    for loss in _losses(training, sizes):
        losses.append(loss)
        on_step()
    seconds = time.process_time() - started
    network = training.network
    global_error, local_error = score(network, rooms)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return PairOutcome(global_error, local_error, parameters, seconds, tuple(tenths(losses)))


def _step_seconds(training: _Training, sizes: PairSizes) -> float:
    found, started = [], time.perf_counter()
    for _ in islice(_losses(training, sizes), _TIMED):
        ended = time.perf_counter()
        found.append(ended - started)
        started = ended
    return min(found)


def _losses(training: _Training, sizes: PairSizes) -> Iterator[float]:
    """Train; the loss of each step when it is done."""
    network, loss = training.network, training.loss
    optim = OptimSettings(lr=sizes.lr, freeze=training.frozen)
    schedule = ScheduleSettings(warmup_steps=None, final_lr=sizes.lr / 100)
    network.train()
    freezer = Freezer(network, optim)
    optimizer = build_optimizer(network, optim, terms=loss)
    for step, batch in enumerate(training.batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps=training.steps, optim=optim, schedule=schedule)
        optimizer.zero_grad(set_to_none=True)
        freezer.before(step)
        values = accumulate(
            network,
            loss,
            batch,
            features=training.features,
            micro_batch=len(batch),
            compute=ComputeSettings(),
            bfloat16=False,
        )
        freezer.after(step)
        nn.utils.clip_grad_norm_([*network.parameters(), *loss.parameters()], optim.clip)
        optimizer.step()
        yield float(values[0])


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
