"""What is stored beside a student's weights: all that a reader needs to use them."""

import json
from dataclasses import field
from typing import Any

from pydantic.dataclasses import dataclass

from distill3r_core.config import STRICT, as_plain, validate
from distill3r_core.models.spec import StudentSpec
from distill3r_core.types import Unit

SCHEMA = 1


@dataclass(frozen=True, config=STRICT)
class StudentMetadata:
    """Where a student comes from and how pictures are to be fitted for it.

    Args:
        preset: The preset it was built from.
        spec: What it is made of, with the properties of the weights.
        size: Rows and columns of the pictures it was trained on, landscape.
        fit: `Fit.as_plain()`: how pictures become its input; empty where nobody knows.
        teacher: Name of its teacher.
        licenses: Of teacher and encoder; a student inherits them.
        unit: Of its points: the unit of its targets, "none" where the scale is relative.
        pictures: File with the hashes of the training frames, beside the run's configuration.
        processing: How `manifest` brought frames to their processed form.
        settings: The resolved settings of the training run.
        plugins: Hash of each plugin that was loaded for the training, by file name.
        step: Optimizer steps it was trained for.
        origin: How the file came to be, in words.
        version: Of the program that wrote it.
        schema: Of this record.
    """

    preset: str
    spec: StudentSpec
    size: tuple[int, int]
    fit: dict[str, Any] = field(default_factory=dict)
    teacher: str = "unknown"
    licenses: tuple[str, ...] = ()
    unit: Unit = "none"
    pictures: str | None = None
    processing: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)
    step: int = 0
    origin: str = ""
    version: str = ""
    schema: int = SCHEMA

    def as_json(self) -> str:
        """One line of text for a file's header."""
        return json.dumps(as_plain(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> "StudentMetadata":
        """The record that `as_json` gave.

        Args:
            text: The record.
            source: Whose it is, for messages.

        Raises:
            ConfigError: Unknown keys or values that do not fit.
        """
        return validate(cls, json.loads(text), source=source)
