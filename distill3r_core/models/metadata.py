"""The description that is stored with a student's weights."""

import json
from dataclasses import field
from typing import Any

from pydantic import SerializeAsAny
from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT, as_plain
from distill3r_core.models.reliability_calibration import ReliabilityCalibration
from distill3r_core.models.spec import StudentSpec
from distill3r_core.types import Unit

SCHEMA = 2


@dataclass(frozen=True, config=STRICT)
class StudentMetadata:
    """Where a student comes from and how images are to be fitted for it.

    Args:
        fit: `ImageFit.as_plain()`: how images become its input; empty where that is unknown.
        unit: Unit of its points: "m" where it has learned the size of targets in meters; "none"
            where the scale is relative.
        pictures: File with the hashes of the training frames, beside the run's configuration.
        processing: How `manifest` brought frames to their processed form.
        plugins: Hash of each plugin that was loaded for the training, by file name.
    """

    preset: str
    spec: SerializeAsAny[StudentSpec]
    size: tuple[int, int]  # rows and columns of the images it was trained on, landscape
    fit: dict[str, Any] = field(default_factory=dict)
    teacher: str = "unknown"
    licenses: tuple[str, ...] = ()  # licenses of teacher and encoder, which a student inherits
    unit: Unit = "none"
    pictures: str | None = None
    processing: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    # What held-out samples showed; None: there were none, or training has not come to its end.
    calibration: ReliabilityCalibration | None = None
    step: int = 0
    origin: str = ""  # how the file came to be, in words
    version: str = ""
    schema: int = SCHEMA

    def as_json(self) -> str:
        """One line of text for a file's header."""
        return json.dumps(as_plain(self), ensure_ascii=False)
