"""A student as the teacher of another one: of a smaller one, or of one of another family."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from distill3r_core import config
from distill3r_core.errors import ConfigError, RequestError
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.losses.feature_similarity import TEACHER_LAYER
from distill3r_core.models.families import family_of
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.reconstruction.prediction.scene_pass import knows_scene
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor
from distill3r_core.runs.student_file import Precision, StudentFile, open_student
from distill3r_core.teachers.base import at_patch_multiples
from distill3r_core.teachers.loaded_teacher import LoadedTeacher
from distill3r_core.teachers.record import TeacherRecord
from distill3r_core.teachers.registry import TEACHERS
from distill3r_core.types import PreparedView, RawMaps, View

_NAME = "student"


@dataclass(frozen=True, config=config.STRICT)
class StudentSettings:
    """Settings of the teacher `student`."""

    precision: Precision = "auto"


class StudentTeacher(LoadedTeacher):
    """A student whose maps are stored for others to learn from; it takes images as it does itself.

    Args:
        file: The student, in evaluation mode on its device.
        settings: Those that it was opened with.

    Raises:
        ConfigError: It is a scene student: its points are in the frame of a scene, and a view's
            place is PnP's.
    """

    name = _NAME

    def __init__(self, file: StudentFile, settings: StudentSettings) -> None:
        if knows_scene(file.student):
            raise ConfigError(
                f"the teacher {_NAME!r}: {file.path} is a scene student, which knows one place",
                hint="a student of the family multiview or pairs",
            )
        super().__init__(TeacherFit(), settings, file.path)
        self._predictor = StudentPredictor(file.student, file.fit, name=file.label)
        self.threshold = learned_threshold(file.student.metadata)

    @property
    def metric(self) -> bool:
        """Whether its points are in meters: a property of the weights."""
        return self._predictor.metric

    @property
    def max_views(self) -> int:
        """The number of views that students of its family can tell apart."""
        return self._predictor.max_views

    @property
    def licenses(self) -> tuple[str, ...]:
        """Licenses of its own teacher and encoder, which it hands on."""
        return self._predictor.licenses or ("unknown",)

    def prepare(self, view: View) -> PreparedView:
        """The view at the student's input size."""
        return self._predictor.prepare(view)

    def predict(
        self, views: Sequence[PreparedView], *, on_progress: StepCallback = ignore_steps
    ) -> RawMaps:
        """All views in one pass; see `StudentPredictor.predict`."""
        return self._predictor.predict(views, on_progress=on_progress)

    @property
    def feature_channels(self) -> Mapping[str, int]:
        """The tokens of its encoder, of a pair student; others give none."""
        student = self._predictor.student
        if not isinstance(student, PairStudent):
            return {}
        return {TEACHER_LAYER: student.spec.token_width}

    @torch.inference_mode()
    def encode_features(
        self, images: Float[Tensor, "B N 3 H W"], layer: str
    ) -> Float[Tensor, "B N h w C"]:
        """See `FeatureTeacher`."""
        student = self._predictor.student
        if not isinstance(student, PairStudent):
            raise RequestError(f"a student of the family {student.spec.family!r} has no {layer!r}")
        patch = family_of(student.spec).multiple(student.spec)
        flat, grid = at_patch_multiples(images.flatten(0, 1), patch)
        tokens = student.image_features(flat.to(student.device))
        return tokens.unflatten(1, grid).unflatten(0, images.shape[:2])


def learned_threshold(metadata: StudentMetadata | None) -> float | None:
    """The threshold of the teachers that a student learned from: its confidence is theirs.

    Returns:
        None where one of them has none (a depth sensor is sure of everything, and so is its
        student), or is not known.
    """
    names = [] if metadata is None else metadata.teacher.split(" + ")
    found = [TEACHERS[name].threshold if name in TEACHERS else None for name in names]
    known = [threshold for threshold in found if threshold is not None]
    return max(known) if known and len(known) == len(found) else None


def _build(settings: StudentSettings, weights: Path | None, device: torch.device) -> StudentTeacher:
    assert weights is not None, "it was required"
    return StudentTeacher(open_student(weights, device, settings.precision), settings)


STUDENT = TeacherRecord(
    name=_NAME,
    build=_build,
    licenses=("those of the student",),
    settings=StudentSettings,
    given_weights="a student's run, checkpoint or weight file",
)
