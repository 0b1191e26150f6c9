"""Which model a name or path stands for, without loading it: a teacher, or a student's file."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from distill3r_core.errors import InputMissingError
from distill3r_core.models.checkpoint import find_student
from distill3r_core.runs.student_file import require_newest_run
from distill3r_core.teachers import TEACHERS, TeacherRecord
from distill3r_core.teachers.recognition import recognize_teacher
from distill3r_core.teachers.registry import AUTOMATIC, find_weights


@dataclass(frozen=True)
class ChosenModel:
    """A model that is there.

    Args:
        teacher: What is known about a teacher; None: the model is a student.
        path: A teacher's folder or file of weights, None where it has none; a student's file.
    """

    teacher: TeacherRecord | None
    path: Path | None


def choose_model(model: str | Path | None) -> ChosenModel:
    """Find the model that a command is to use; nothing of it is loaded yet.

    Args:
        model: Name of a teacher, folder or file of a teacher's official weights, a run's folder, a
            checkpoint's folder or a weight file of a student; None: the newest run. A folder that
            is called like a teacher is meant by `./NAME`.

    Raises:
        InputMissingError: There is no such file, or no run.
        WeightsError: The teacher's weights are missing, or a file is damaged.
    """
    if model is None:
        return ChosenModel(None, find_student(require_newest_run(_without_training)))
    if str(model) in TEACHERS:
        record = TEACHERS[str(model)]
        return ChosenModel(record, find_weights(record, as_model=True))
    path = Path(model).expanduser()
    if not path.exists():
        near = difflib.get_close_matches(str(model), list(TEACHERS), n=1)
        hint = f"did you mean {near[0]}? Models: {', '.join(TEACHERS)}" if near else None
        raise InputMissingError(
            f"no run, weight file or model {model}"
            if near
            else f"no run and no weight file {model}",
            hint=hint or f"a run, a weight file or folder, or a name: {', '.join(TEACHERS)}",
        )
    found = recognize_teacher(path, TEACHERS)
    if found is not None:
        return ChosenModel(*found)
    return ChosenModel(None, find_student(path))


def chosen_teachers(models: Iterable[str | Path | None]) -> list[TeacherRecord]:
    """The teachers among models; see `choose_model`.

    Raises:
        InputMissingError: A model is not there.
        WeightsError: A teacher's weights are missing, or a file is damaged.
    """
    chosen = (choose_model(model).teacher for model in models)
    return [teacher for teacher in chosen if teacher is not None]


def _without_training() -> str:
    """How photographs become a reconstruction where there is no student."""
    record = AUTOMATIC[-1]
    published = record.weights
    assert published is not None, "it is chosen for photographs alone"
    if published.find() is not None:
        return f"without training: infer ... -m {record.name} (its weights are here)\n"
    return (
        f"without training: distill3r models download {record.name} ({published.size}, "
        f"{published.license}), then infer ... -m {record.name}\n"
    )
