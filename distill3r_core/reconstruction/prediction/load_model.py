"""Any model by its name or path: a student of this project, or a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from distill3r_core.models.student import Student
from distill3r_core.prediction import Predictor
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor
from distill3r_core.runs.chosen_model import choose_model
from distill3r_core.runs.student_file import Precision, StudentFile, open_student
from distill3r_core.teachers import Teacher, build_teacher
from distill3r_core.teachers.choice import settings_for


@dataclass(frozen=True)
class LoadedModel:
    """A model that a command is to use."""

    predictor: Predictor
    label: str  # name of the run, of the file or of the model, for the names of results
    device: torch.device
    source: StudentFile | None = None  # the file of a student's weights; None for a teacher

    @property
    def student(self) -> Student | None:
        """The student; None where the model is none."""
        return None if self.source is None else self.source.student

    @property
    def location(self) -> str:
        """Path of a student's weights, or the name of a teacher."""
        return self.label if self.source is None else str(self.source.path)

    @property
    def precision(self) -> str:
        """Precision of the products."""
        if self.source is not None:
            return self.source.precision
        assert isinstance(self.predictor, Teacher)
        return str(self.predictor.settings.get("precision", "float32"))

    @property
    def teacher_settings(self) -> dict[str, Any] | None:
        """A teacher's own settings; None for a student."""
        if self.source is not None:
            return None
        assert isinstance(self.predictor, Teacher)
        return dict(self.predictor.settings)

    @property
    def facts(self) -> tuple[str, ...]:
        """What the headers of files state about the model."""
        return model_facts(self.predictor)

    @cached_property
    def identity(self) -> str | dict[str, object]:
        """What tells this model from any other: a hash of its weights, and a teacher's settings."""
        if self.source is not None:
            return self.source.digest
        assert isinstance(self.predictor, Teacher)
        return {
            "name": self.predictor.name,
            "weights": self.predictor.weights_hash,
            "settings": self.teacher_settings,
        }


def load_model(model: str | Path, *, device: str | torch.device = "cpu") -> Predictor:
    """Load any model that can be run on images.

    Args:
        model: See `choose_model`.

    Raises:
        ConfigError: The teacher's settings do not fit.
        InputMissingError: There is no such file.
        WeightsError: The teacher's weights are missing, or a file is not a student's.
    """
    return open_model(model, torch.device(device)).predictor


def open_model(
    model: str | Path | None,
    device: torch.device,
    precision: Precision = "auto",
    *,
    teacher: Mapping[str, Any] = MappingProxyType({}),
) -> LoadedModel:
    """Load the model that a command is to use.

    Args:
        model: As in `load_model`; None: the student of the newest run.
        precision: Precision of a student's products; see `open_student`.
        teacher: Settings of teachers; the model, where it is one, takes those that it has.

    Raises:
        ConfigError: The values of such settings do not fit.
        InputMissingError: There is no such file, or no run.
        WeightsError: The teacher's weights are missing, or a file is not a student's.
    """
    chosen = choose_model(model)
    if chosen.teacher is not None:
        own = settings_for(chosen.teacher, teacher)
        built = build_teacher(chosen.teacher, chosen.path, device=device, **own)
        return LoadedModel(built, built.name, device)
    file = open_student(chosen.path, device, precision)
    predictor = StudentPredictor(file.student, file.fit, name=file.label)
    return LoadedModel(predictor, file.label, device, file)


def model_facts(predictor: Predictor) -> tuple[str, ...]:
    """What is known of a model, as lines for the headers of files."""
    if not isinstance(predictor, StudentPredictor):
        kind = f"model: {predictor.name}"
    elif predictor.student.metadata is None:
        return ()
    else:
        metadata = predictor.student.metadata
        kind = f"student: {metadata.preset}, teacher {metadata.teacher}"
    return (kind, *(f"license: {license}" for license in predictor.licenses))
