"""What an evaluation scores: students, teachers, the truth or a plane, behind one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from distill3r_core import config
from distill3r_core.errors import ConfigError, InputMissingError
from distill3r_core.evaluation.baselines import predict_constant_depth
from distill3r_core.evaluation.baselines.training_frames import TrainingFrames
from distill3r_core.evaluation.localization.localization_metrics import LOCALIZATION_METRICS
from distill3r_core.evaluation.localization.localized_windows import LocalizedWindows
from distill3r_core.evaluation.predictions import (
    Prediction,
    Unpredicted,
    predict_in_memory,
    predict_truth,
    predict_with,
    predict_with_student,
)
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.view_truth import PrepareViews, fit_views, prepare_views
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.paths import RUNS, newest_run
from distill3r_core.reconstruction.prediction.load_model import open_model
from distill3r_core.reconstruction.prediction.scene_pass import knows_scene, scene_frame_problem
from distill3r_core.report import Progress
from distill3r_core.runs.chosen_model import chosen_teachers
from distill3r_core.runs.student_file import StudentFile
from distill3r_core.stages.evaluate.own_caches import training_frames_of
from distill3r_core.stages.evaluate.settings import EvalSettings
from distill3r_core.teachers import Teacher
from distill3r_core.teachers.choice import check_own_settings

WITHOUT_MODEL = {"truth": predict_truth, "constant": predict_constant_depth}


@dataclass(frozen=True)
class ScoredModel:
    """A model, or what stands in its place.

    Args:
        student: The student whose grid, training frames and cache are used; None: there is none.
        grid: Rows and columns of its input, landscape; None: it follows from the images.
        teacher_settings: A teacher's own settings; None: it is none.
        references: The frames among which it localizes views, or why there are none; None where a
            protocol does not ask for that, or the model knows the scene.
    """

    label: str  # name in tables and of the result folder
    digest: str | None  # hash of the weights; None where there are none
    prepare: PrepareViews
    predict: Prediction
    student: StudentFile | None
    grid: tuple[int, int] | None
    teacher_settings: Mapping[str, Any] | None = None
    references: TrainingFrames | Unpredicted | None = None

    @property
    def identity(self) -> str:
        """What its predictions come from: weights, and the caches that it localizes views in."""
        parts = [self.digest or self.label]
        if isinstance(self.references, TrainingFrames):
            parts += [member.cache.header.identity for member in self.references.cache.members]
        return " ".join(parts)


def open_models(
    settings: EvalSettings, protocol: Protocol, device: torch.device, progress: Progress
) -> list[ScoredModel]:
    """What the settings ask to score; at least one.

    Args:
        protocol: Has a grid for what comes from no model.

    Raises:
        ConfigError: A size, or several models, where neither is used, or settings of teachers that
            no model has.
        InputMissingError: There is no run, or no such file.
        WeightsError: A file is not that of a model.
    """
    if settings.teacher:
        check_own_settings(chosen_teachers(settings.models), settings.teacher)
    if settings.predict == "student":
        if settings.models:
            return [_open(settings, protocol, name, device) for name in settings.models]
        if newest_run() is None:
            raise InputMissingError(
                f"no run in {RUNS}/ to score",
                hint="make one with `distill3r train`, name a run or a weight file "
                "(`distill3r eval RUN`), or score a plane: --predict constant",
            )
        return [_open(settings, protocol, None, device)]
    if len(settings.models) > 1:
        raise ConfigError(
            f"--predict {settings.predict} takes its grid from one run, not from "
            f"{len(settings.models)}",
            hint="name one run, or none",
        )
    predict = WITHOUT_MODEL[settings.predict]
    if settings.models or settings.data is None:
        given = _open(settings, protocol, settings.models[0] if settings.models else None, device)
        label = f"{settings.predict}-{given.label}"
        return [ScoredModel(label, given.digest, given.prepare, predict, given.student, given.grid)]
    if settings.size is not None:
        grid = config.parse_size(settings.size)
    else:
        grid = protocol.grid
        progress.note(
            f"on the protocol's grid, {grid[0]}x{grid[1]}, as the published figures are; for a "
            "run's own name the run, --size HxW takes another (figures of different grids do not "
            "compare)"
        )
    prepare = partial(fit_views, fit=ImageFit(size=grid, mode=protocol.fit))
    return [ScoredModel(settings.predict, None, prepare, predict, None, grid)]


def scene_problem(model: ScoredModel, protocol: Protocol) -> str | None:
    """Why a student has no place in a scene, where a protocol scores that; None: it has one."""
    if not _localizes(protocol) or model.student is None:
        return None
    if knows_scene(model.student.student):
        return scene_frame_problem(model.student.student)
    if isinstance(model.references, Unpredicted):
        return f"it has learned no scene, and {model.references.reason}"
    return None


def _localizes(protocol: Protocol) -> bool:
    """Whether a protocol scores where views are in a scene."""
    return any(metric.name in protocol.metrics for metric in LOCALIZATION_METRICS)


def _prediction(
    student: StudentFile, references: TrainingFrames | Unpredicted | None
) -> Prediction:
    """How a student predicts: where it is to localize views, among the frames that it knows."""
    if isinstance(references, TrainingFrames):
        localized = LocalizedWindows(student.student, references)
        return predict_in_memory(localized.predict, student.device)
    return predict_with_student(student)


def labels_of(models: Sequence[ScoredModel], names: Sequence[str]) -> list[str]:
    """A label for each model; as it was typed where two would have the same."""
    labels = [model.label for model in models]
    return [
        name if labels.count(label) > 1 else label
        for label, name in zip(labels, names or labels, strict=True)
    ]


def _open(
    settings: EvalSettings, protocol: Protocol, name: str | None, device: torch.device
) -> ScoredModel:
    """The model of a name or path; None: the newest run's student."""
    # In float32 on every device: a score must not depend on where it was computed.
    model = open_model(name, device, "float32", teacher=settings.teacher)
    student = model.source
    if student is None:
        if settings.data is None:
            raise ConfigError(
                f"{name} has no validation samples",
                hint="score it against a data set: --data ROOT",
            )
        assert isinstance(model.predictor, Teacher)
        return ScoredModel(
            label=model.label,
            digest=model.predictor.weights_hash,
            prepare=partial(prepare_views, model=model.predictor),
            predict=predict_with(model.predictor, device=device),
            student=None,
            grid=None,
            teacher_settings=model.teacher_settings,
        )
    if settings.size is not None:
        raise ConfigError(
            f"size {settings.size}: {student.label} brings its own grid",
            hint="leave the size out, or the run: --predict truth or constant needs none",
        )
    references = None
    if _localizes(protocol) and not knows_scene(student.student):
        references = training_frames_of(student)
    return ScoredModel(
        label=student.label,
        digest=student.digest,
        prepare=partial(fit_views, fit=student.fit),
        predict=_prediction(student, references),
        student=student,
        grid=student.fit.resized or student.fit.size,
        references=references,
    )
